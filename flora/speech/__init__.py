"""fLoRA on models that listen: audio, transcripts, training. Knows no server."""
