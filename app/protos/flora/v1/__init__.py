"""Version 1. flora.proto is the source; the other files are made of it, in the repository's root:

python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. app/protos/flora/v1/flora.proto
"""
