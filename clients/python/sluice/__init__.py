"""Text from models larger than GPU memory: a client of `sluice serve`, in transformers' words.

    with sluice.Model("models/opt-30b", ranks=2, policy={"percent": (20, 80, 0, 100, 100, 0)}) as model:
        print(model.generate("The capital of France is", max_new_tokens=8))

Needs nothing outside the standard library. pandas' tables are taken and given where pandas is there.
"""

from sluice.completion import Completion
from sluice.errors import Error, RequestError, ServerError
from sluice.local_server import LocalServer
from sluice.model import Model
from sluice.scores import ChoiceScore, Scores

__all__ = ["ChoiceScore", "Completion", "Error", "LocalServer", "Model", "RequestError", "Scores", "ServerError"]
__version__ = "0.1.0"
