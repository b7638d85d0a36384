"""The embedded garment scenes: composed from a committed part of Fashion-MNIST."""
