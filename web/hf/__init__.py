"""The Hugging Face wire, so that stock `hf`, PEFT, transformers and vLLM work with HF_ENDPOINT alone.

Imports: `api`, `xet`, `http`.
The door is `api.install`.
"""
