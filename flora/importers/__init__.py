"""Adapters of other methods and trainers that have fLoRA's form, made into fLoRA files."""
