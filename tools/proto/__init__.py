"""Protobuf generation, lint and compatibility, without a network: `python -m tools.proto generate|check|lint|breaking|baseline`.

Owns everything between `proto/` and the generated packages under `libs/`. Third-party descriptors come out of installed packages
(`dependencies`), our files are compiled against them into an image (`image`), and buf works on that image (`checking`, `rendering`).
Nothing generated is ever edited by hand, and `buf generate` is never run alone: imports are rewritten after it (`rendering`).
"""
