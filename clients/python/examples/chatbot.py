"""A chatbot with a persona: answers appear as they are made. An empty line or the end of the input ends it.

    python chatbot.py --model Qwen/Qwen2.5-7B-Instruct --persona "You are a pirate."

The history goes along with each question; the server keeps what two requests begin with alike, so only what is new
is computed. Ctrl-C stops an answer.
"""

import argparse
import sys

import example_model


def answer(model, messages, **words) -> str:
    """Prints the assistant's next message piece by piece, and returns as much of it as was made."""
    said = []
    try:
        for piece in model.chat(messages, stream=True, **words):
            said.append(piece)
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pass
    print()
    return "".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    example_model.add_options(parser)
    parser.add_argument("--persona", help="what the assistant is told to be")
    parser.add_argument("--temperature", type=float, default=0.7, help="0: greedy [0.7]")
    parser.add_argument("--stop", action="append", help="a text that ends an answer; may be repeated")
    options = parser.parse_args()
    words = {"do_sample": options.temperature > 0, "stop": options.stop}
    if options.temperature > 0:
        words["temperature"] = options.temperature
    messages = [{"role": "system", "content": options.persona}] if options.persona else []
    with example_model.open_model(options) as model:
        while True:
            print("> ", end="", flush=True)
            line = sys.stdin.readline().rstrip("\n")
            if not line:
                print()
                return
            messages.append({"role": "user", "content": line})
            messages.append({"role": "assistant", "content": answer(model, messages, **words)})


if __name__ == "__main__":
    main()
