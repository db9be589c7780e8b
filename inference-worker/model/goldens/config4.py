"""Writes `<model>/config4.json` beside each golden `config.json`: the same model in the spelling of
transformers 4, by transformers 4.

    python -m venv venv4 && venv4/bin/pip install -r requirements-4.txt && venv4/bin/python config4.py
"""

import json
from pathlib import Path

from transformers import AutoConfig, __version__

HERE = Path(__file__).parent


def main():
    assert __version__.startswith("4."), __version__
    for path in sorted(HERE.glob("*/config.json")):
        fields = json.loads(path.read_text())
        architectures, dtype = fields.pop("architectures"), fields.pop("dtype")
        for name in ["transformers_version", "layer_types"]:
            fields.pop(name, None)
        rope = fields.pop("rope_parameters")
        fields["rope_theta"] = rope.pop("rope_theta")
        if rope["rope_type"] != "default":
            fields["rope_scaling"] = rope
        config = AutoConfig.for_model(**fields, architectures=architectures, torch_dtype=dtype)
        text = json.dumps(config.to_diff_dict(), indent=2, sort_keys=True, default=str)
        (path.parent / "config4.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
