"""Evaluation inside and after the training, and the modes that it leaves behind."""
