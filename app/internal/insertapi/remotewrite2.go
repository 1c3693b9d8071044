package insertapi

import (
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/protoparser"
)

// The messages of remote write by the names which senders give them.
const (
	messageV1 = "prometheus.WriteRequest"
	messageV2 = "io.prometheus.write.v2.Request"
)

// readContentType notes what the header says of the body, or returns why such a body cannot be read.
func (t *target) readContentType(h http.Header) (err error) {
	switch t.format {
	case remoteWrite:
		t.symbolTable, err = isV2(h)
	case textImport: // clients of the Pushgateway send protobuf unless told otherwise, which must not pass for bad lines
		if kind, _, err := mime.ParseMediaType(h.Get("Content-Type")); err == nil && strings.Contains(kind, "protobuf") {
			return fmt.Errorf("cannot read metrics of the content type %q: send the text format; in Go by push.New(...).Format(expfmt.NewFormat(expfmt.TypeTextPlain))", kind)
		}
	}
	return err
}

// isV2 reports whether a remote write request has the message of version 2.0. The error is for senders which may have another one to
// offer.
func isV2(h http.Header) (bool, error) {
	_, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return false, nil // version 1.0 has no use for the type
	}
	switch message := params["proto"]; message {
	case "", messageV1:
		return false, nil
	case messageV2:
	default:
		return false, fmt.Errorf("cannot read remote write message %q: known are %s and %s", message, messageV1, messageV2)
	}
	known := []string{"", "identity", "snappy", "zstd", "gzip", "deflate"}
	if encoding := contentEncoding(h); !slices.Contains(known, encoding) {
		return true, fmt.Errorf("cannot read remote write message in the content encoding %q: use snappy or zstd", encoding)
	}
	return true, nil
}

// noteWritten tells a sender of version 2.0 what was stored, as it must be told however the request ends.
func noteWritten(h http.Header, r *protoparser.Result) {
	h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(r.Rows-r.Histograms))
	h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(r.Histograms+r.Converted))
	h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(r.Exemplars))
}

// partialWrite returns what a sender of version 2.0 is told when something was left out for good.
func partialWrite(r *protoparser.Result) error {
	if r.Dropped+r.Invalid == 0 {
		return nil
	}
	return errkind.New(errkind.BadRequest, "cannot store %d of %d samples: %s; the others are stored", r.Dropped+r.Invalid, r.Rows+r.Dropped+r.Invalid, r.Reason)
}
