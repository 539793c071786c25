"""A fLoRA adapter in the place of a trained LoRA, without labels. Knows no server."""
