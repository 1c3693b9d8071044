#!/bin/sh
# Makes two CAs with a certificate each, one for the connections between the nodes and one for HTTPS, and prints both as Secrets:
#
#   certificates.sh DIR [DNS:name | IP:address]... | kubectl apply -f -
#
# The CAs stay in DIR: with the same DIR it renews the certificates, which need no restart. Keep DIR secret. The names that
# are given are for the certificates beside those within Kubernetes, as that of an Ingress.
set -eu
umask 077
dir=${1:?usage: certificates.sh DIR [DNS:name | IP:address]...}
shift
namespace=vm-cluster
within=$namespace.svc.cluster.local
mkdir -p "$dir"

# make NAME NAMES: a certificate DIR/NAME.crt for the comma-separated NAMES, by the CA of the same name.
make() {
	ca=$dir/$1-ca
	if [ ! -e "$ca.crt" ]; then
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=vmcluster $1 CA" \
			-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$ca.key" -out "$ca.crt" 2>"$dir/log"
	fi
	printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n' "$2" >"$dir/$1.ext"
	openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=vmcluster $1" -keyout "$dir/$1.key" -out "$dir/$1.csr" 2>"$dir/log"
	openssl x509 -req -in "$dir/$1.csr" -CA "$ca.crt" -CAkey "$ca.key" -CAcreateserial -days 365 -extfile "$dir/$1.ext" -out "$dir/$1.crt" 2>"$dir/log"
}

# secret NAME: prints what make has made.
secret() {
	printf -- '---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  name: %s-tls\n  namespace: %s\ndata:\n' "$1" "$namespace"
	printf '  tls.crt: %s\n' "$(base64 <"$dir/$1.crt" | tr -d '\n')"
	printf '  tls.key: %s\n' "$(base64 <"$dir/$1.key" | tr -d '\n')"
	printf '  ca.crt: %s\n' "$(base64 <"$dir/$1-ca.crt" | tr -d '\n')"
}

more=
for name in "$@"; do
	more=$more,$name
done
make node "DNS:*.cluster-vmstorage.$within$more"
http=
for name in vmselect vminsert; do
	http=$http,DNS:$name.$namespace,DNS:$name.$namespace.svc,DNS:$name.$within,DNS:*.cluster-$name.$within
done
make http "${http#,}$more"
secret node
secret http
