#!/usr/bin/env bash
# Prints the secrets of Redis with new passwords and a certificate of its own, good for ten years:
#   k8s/secrets/make.sh | kubectl apply --namespace flora --filename -
# Prints something else each time. Keep it nowhere but in the cluster.
set -euo pipefail
command -v openssl >/dev/null || { echo "openssl is needed (Debian, Ubuntu: apt-get install openssl)" >&2; exit 1; }

templates=$(dirname "${BASH_SOURCE[0]}")/templates.yaml
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
umask 077

flora=$(openssl rand -hex 32) ray=$(openssl rand -hex 32)
hash_of() { printf %s "$1" | openssl dgst -sha256 -r | cut -d' ' -f1; }
acl_of() { sed -nE "s/^ +(user $1 .*)/\1/p" "$templates"; } # acl_of USER: its line in the template

make_key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
make_key "$folder/ca.key"
openssl req -x509 -new -key "$folder/ca.key" -days 3650 -subj "/CN=flora-serve redis CA" -out "$folder/ca.crt"
make_key "$folder/tls.key"
openssl req -new -key "$folder/tls.key" -subj "/CN=redis" -out "$folder/tls.csr"
printf 'subjectAltName=DNS:redis,DNS:redis.flora,DNS:redis.flora.svc,DNS:localhost,IP:127.0.0.1\n' >"$folder/names"
openssl x509 -req -in "$folder/tls.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -CAcreateserial \
    -days 3650 -extfile "$folder/names" -out "$folder/tls.crt" 2>/dev/null

block() { sed 's/^/    /'; }
secret() { printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\ntype: %s\nstringData:\n' "$1" "$2"; }

secret redis-users Opaque
echo '  users.acl: |'
{
    acl_of default
    acl_of probe
    acl_of flora | sed "s/<[^>]*>/$(hash_of "$flora")/"
    acl_of ray | sed "s/<[^>]*>/$(hash_of "$ray")/"
} | block
secret redis-clients Opaque
echo "  url: rediss://flora:$flora@redis:6379/0?ssl_ca_certs=/etc/redis-tls/ca.crt"
echo "  ray-password: $ray"
secret redis-tls kubernetes.io/tls
for name in ca.crt tls.crt tls.key; do
    echo "  $name: |"
    block <"$folder/$name"
done
