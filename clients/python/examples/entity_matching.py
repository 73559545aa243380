"""Data wrangling: are two descriptions of products the same product? Few-shot, over a table, with the accuracy.

    python entity_matching.py --model facebook/opt-6.7b
    python entity_matching.py --model facebook/opt-6.7b --table pairs.csv --shots 6

The table has the columns left, right and same (yes or no). Its first rows are the examples that each prompt begins
with, which the server computes once for all of them; the others are asked. The answer can be nothing but Yes or No.
"""

import argparse
import csv
import pathlib

import example_model

TABLE = pathlib.Path(__file__).with_name("products.csv")
ANSWERS = {"yes": " Yes", "no": " No"}


def question(row, answer="") -> str:
    return f"A is {row['left']}. B is {row['right']}. Are A and B the same? {answer}".rstrip(" ")


def prompts_of(shots, rows):
    """Each row's question behind all examples with their answers."""
    examples = "".join(question(row) + ANSWERS[row["same"]] + "\n" for row in shots)
    return [examples + question(row) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    example_model.add_options(parser)
    parser.add_argument("--table", type=pathlib.Path, default=TABLE, help="CSV [products.csv beside this file]")
    parser.add_argument("--shots", type=int, default=2, help="examples in front of each question [2]")
    options = parser.parse_args()
    with open(options.table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    shots, asked = rows[:options.shots], rows[options.shots:]
    with example_model.open_model(options) as model:
        answers = model.generate(prompts_of(shots, asked), max_new_tokens=8, choice=list(ANSWERS.values()))
    expected = [ANSWERS[row["same"]] for row in asked]
    pairs = list(zip(answers, expected))
    right = sum(answer == truth for answer, truth in pairs)
    found = sum(answer == truth == " Yes" for answer, truth in pairs)
    said, there = answers.count(" Yes"), expected.count(" Yes")
    print(f"accuracy {right / len(pairs):.3f} ({right} of {len(pairs)}), "
          f"precision {found / said if said else 0:.3f}, recall {found / there if there else 0:.3f}")


if __name__ == "__main__":
    main()
