"""Publishing the adapters of a folder, and what to paste to see their effect."""

from pathlib import Path

from rich.console import Console

from app.api_client import CONFIG_FILE, ApiClient
from contracts.errors import InvalidAdapter

_QUESTION = "What is the capital of France?"


def find_adapters(folder: Path) -> list[Path]:
    """The adapter folders directly in `folder`, by name. Raises InvalidAdapter where none is."""
    found = sorted(path.parent for path in folder.glob(f"*/{CONFIG_FILE}"))
    if not found:
        raise InvalidAdapter(f"{folder} holds no folder with an {CONFIG_FILE}")
    return found


def publish_adapters(
    api: ApiClient, folder: Path, console: Console, model: str | None = None
) -> list[str]:
    """Publish each adapter in `folder` under its folder's name, for the base model `model`; the
    names.
    """
    names = []
    for path in find_adapters(folder):
        made = api.push(path.name, path, model)
        console.print(f"{made['id']}@{made['version']}: {made['size_bytes']:,} bytes")
        names.append(path.name)
    return names


def snippets(url: str, base: str, adapters: list[str], *, needs_key: bool = False) -> str:
    """The same prompt for base and adapters, as curl and in Python.

    A key is never shown: where one is needed, both read it from FLORA_API_KEY.
    """
    key_header = ' -H "Authorization: Bearer $FLORA_API_KEY"' if needs_key else ""
    key = 'os.environ["FLORA_API_KEY"]' if needs_key else '"none"'
    imports = "import os\n" if needs_key else ""
    models = [base, *(f"{base}:{name}" for name in adapters)]
    return f"""
for model in {" ".join(models)}; do
  curl -s {url}/v1/chat/completions -H 'Content-Type: application/json'{key_header} -d '{{
    "model": "'$model'", "temperature": 0, "max_tokens": 40,
    "messages": [{{"role": "user", "content": "{_QUESTION}"}}]}}'; echo
done

{imports}from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key={key})
for model in {models}:
    answer = client.chat.completions.create(
        model=model, temperature=0, max_tokens=40,
        messages=[{{"role": "user", "content": "{_QUESTION}"}}])
    print(model, "->", answer.choices[0].message.content)
"""


def grpc_snippet(address: str, model: str, *, needs_key: bool = False) -> str:
    """One streamed answer with grpcurl, which learns the messages from the server."""
    key_header = ' -H "authorization: Bearer $FLORA_API_KEY"' if needs_key else ""
    return f"""
grpcurl -plaintext{key_header} -d '{{
  "model": "{model}", "sampling": {{"temperature": 0, "max_tokens": 40}},
  "conversation": {{"messages": [{{"role": "user", "content": "{_QUESTION}"}}]}}}}' \\
  {address} flora.v1.Generation/GenerateStream
"""
