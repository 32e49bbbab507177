"""The model card of an exported run: README.md in the Hub's format."""
