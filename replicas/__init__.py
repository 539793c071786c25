"""One vLLM engine with fLoRA inside: slot table, slab, kernels, vLLM plugin, Serve deployment."""
