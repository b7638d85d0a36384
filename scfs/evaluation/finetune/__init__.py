"""Fine-tuning of whole encoders with labels: semi-supervised learning and transfer (SimCLR, appendices B.5 and B.8)."""
