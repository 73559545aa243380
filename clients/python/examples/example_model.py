"""What all examples are told alike: which model, and where its bytes lie."""

import argparse

import sluice


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="model folder or hub id, or http://HOST:PORT of a server")
    parser.add_argument("--ranks", type=int, default=1, help="stages of the server that is started [1]")
    parser.add_argument("--percent", nargs=6, type=int, metavar="N",
                        help="shares on GPU and host of weights, KV cache and activations, as FlexGen has them")
    parser.add_argument("--compress-weight", action="store_true", help="weights in 4 bits")
    parser.add_argument("--chat-template", metavar="FILE", help="in the place of the model's own")
    parser.add_argument("--device", help="cpu or cuda [what is there]")
    parser.add_argument("--program", help="the sluice program [SLUICE, or that of PATH]")


def open_model(options: argparse.Namespace) -> sluice.Model:
    if options.model.startswith("http"):
        return sluice.Model(options.model)
    policy = {name: getattr(options, name)
              for name in ("percent", "compress_weight", "chat_template", "device")}
    return sluice.Model(options.model, ranks=options.ranks, policy=policy, program=options.program)
