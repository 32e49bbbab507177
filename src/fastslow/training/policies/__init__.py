"""The policies that share one base, how they are loaded and handed on."""
