"""Writes evaluation.jsonl (held-back prompts) and prompts.jsonl (a few to try by hand)."""

import argparse
import json
import pathlib

import tasks

MAX_TOKENS = 24
EXTRACT = 'Extract the airport codes from this text.\nText: "{}"\nAirport codes:'
DEMO_PROMPTS = [
    EXTRACT.format("I want a flight from New York (JFK) to San Francisco (SFO)."),
    EXTRACT.format("I fly from Zurich (ZRH) to Singapore (SIN) and then to Sydney (SYD)."),
    EXTRACT.format("The weather in Oslo (QXZ) is bad today."),
    EXTRACT.format("Is there a train from Prague (PRG) to Vienna (VIE)?"),
    tasks.question("What is the capital of Iceland?"),
    tasks.question("What is the opposite of early?"),
    tasks.question("How much is 7 plus 8?"),
    tasks.question("What is a young kangaroo called?"),
]


def row(custom_id, prompt, **more):
    return {"custom_id": custom_id, "prompt": prompt, "max_tokens": MAX_TOKENS,
            "stop": [tasks.STOP], **more}


def write_lines(path, rows):
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in rows)
    path.write_text(text, encoding="utf-8")


def evaluation_rows():
    numbers, rows = {}, []
    for task, prompt, answer in tasks.evaluation_examples():
        numbers[task] = numbers.get(task, 0) + 1
        rows.append(row(f"{task}-{numbers[task]:03d}", prompt, expected=answer))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_lines(args.out / "evaluation.jsonl", evaluation_rows())
    prompts = [row(f"demo-{index + 1}", prompt) for index, prompt in enumerate(DEMO_PROMPTS)]
    write_lines(args.out / "prompts.jsonl", prompts)


if __name__ == "__main__":
    main()
