"""An exported model in use: batch, stream, web."""
