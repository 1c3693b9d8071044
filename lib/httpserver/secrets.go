package httpserver

import (
	"net/http"
	"os"
	"strings"

	"vmcluster/lib/flagvalue"
)

// cmdline answers the command line as /debug/pprof/cmdline does, but for the values of secret flags: who may look at
// profiles need not know the keys to everything else.
func cmdline(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	write(w, strings.Join(withoutSecretFlags(os.Args), "\x00"))
}

// withoutSecretFlags returns the arguments with the values of secret flags replaced.
func withoutSecretFlags(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = arg
		name, _, hasValue := strings.Cut(arg, "=")
		switch {
		case hasValue && isSecretFlag(name):
			out[i] = name + "=secret"
		case i > 0 && !strings.Contains(args[i-1], "=") && isSecretFlag(args[i-1]):
			out[i] = "secret"
		}
	}
	return out
}

func isSecretFlag(arg string) bool {
	return strings.HasPrefix(arg, "-") && flagvalue.IsSecret(strings.TrimLeft(arg, "-"))
}

// withoutSecretArgs returns the URI of a request with the values of arguments such as authKey replaced.
func withoutSecretArgs(uri string) string {
	path, query, found := strings.Cut(uri, "?")
	if !found {
		return uri
	}
	args := strings.Split(query, "&")
	for i, arg := range args {
		if name, _, ok := strings.Cut(arg, "="); ok && flagvalue.IsSecret(name) {
			args[i] = name + "=secret"
		}
	}
	return path + "?" + strings.Join(args, "&")
}

// LoggedURI returns the request's URI for log records: without the values of
// secret arguments.
func LoggedURI(r *http.Request) string { return withoutSecretArgs(r.RequestURI) }
