package insertapi

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"time"
)

// otlpFormat returns what the body of an OTLP request is, as the parser knows it.
func otlpFormat(h http.Header) string {
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-Firehose-") {
			return "firehose"
		}
	}
	if mediaType(h) == "application/json" {
		return "json"
	}
	return ""
}

// mediaType returns the Content-Type without its parameters; empty when it cannot be understood.
func mediaType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// acceptOTLP answers an OTLP request which has succeeded, in the encoding it came in. Firehose wants its own number back.
func acceptOTLP(w http.ResponseWriter, r *http.Request) {
	switch otlpFormat(r.Header) {
	case "json":
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}")) // the client has gone
	case "firehose":
		if id := r.Header.Get("X-Amz-Firehose-Request-Id"); id != "" {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"requestId": id, "timestamp": time.Now().UnixMilli()}) // the client has gone
			return
		}
		fallthrough
	default:
		w.WriteHeader(http.StatusOK)
	}
}
