"""FlexGen's completion: two prompts, answered up to the end of a line.

    python completion.py --model facebook/opt-1.3b --percent 20 80 0 100 100 0
"""

import argparse

import example_model

PROMPTS = [
    "Question: Where were the 2004 Olympics held?\nAnswer: Athens, Greece\n"
    "Question: What is the longest river on the earth?\nAnswer:",
    "Extract the airport codes from this text.\n"
    "Text: \"I want a flight from New York (JFK) to San Francisco (SFO).\"\nAirport codes:",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    example_model.add_options(parser)
    parser.add_argument("--temperature", type=float, default=0.0, help="0: greedy [0]")
    options = parser.parse_args()
    sampling = {"do_sample": True, "temperature": options.temperature} if options.temperature > 0 else {}
    with example_model.open_model(options) as model:
        answers = model.generate(PROMPTS, max_new_tokens=32, stop="\n", **sampling)
    for prompt, answer in zip(PROMPTS, answers):
        print(f"{prompt}{answer}\n{'-' * 70}")


if __name__ == "__main__":
    main()
