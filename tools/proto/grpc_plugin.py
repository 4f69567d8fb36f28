"""A protoc plugin for gRPC's Python output: grpcio-tools has that generator only inside its compiler, and buf knows no such builtin.

buf runs it as `python -m tools.proto.grpc_plugin`: a CodeGeneratorRequest on standard input, the response on standard output.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2


def main() -> None:
    """Hands the request's descriptors to the compiler in a folder of its own and answers the files it made."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    response = plugin_pb2.CodeGeneratorResponse(supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    with tempfile.TemporaryDirectory() as folder:
        image, out = Path(folder, "image.binpb"), Path(folder, "out")
        image.write_bytes(descriptor_pb2.FileDescriptorSet(file=request.proto_file).SerializeToString())
        out.mkdir()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={image}"),
                f"--grpc_python_out={request.parameter}:{out}",
                *request.file_to_generate,
            ],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            response.error = done.stderr.strip()
        for path in sorted(out.rglob("*.py")):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text(encoding="utf-8"))
    sys.stdout.buffer.write(response.SerializeToString())


if __name__ == "__main__":
    main()
