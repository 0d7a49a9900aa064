"""A Hugging Face `config.json` as a `Model`."""
