package httpserver

import (
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"

	"vmcluster/lib/logger"
)

// Answers below this size are sent as they are.
const minCompressBytes = 1400

// compressWriter compresses the answer when the client accepts gzip and the
// answer is large enough to gain from it.
type compressWriter struct {
	http.ResponseWriter
	accepts bool
	status  int
	pending []byte // the start of the answer until it is clear how to send it
	started bool
	gz      *gzip.Writer
	err     error
}

func (s *Server) compress(w http.ResponseWriter, r *http.Request) *compressWriter {
	accepts := !s.o.Config.DisableCompression && r.Method != http.MethodHead && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
	return &compressWriter{ResponseWriter: w, accepts: accepts, status: http.StatusOK}
}

// WriteHeader remembers the status until the first bytes are sent.
func (c *compressWriter) WriteHeader(status int) { c.status = status }

// Write sends, compresses or holds back the bytes.
func (c *compressWriter) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if !c.started {
		c.pending = append(c.pending, p...)
		if len(c.pending) < minCompressBytes {
			return len(p), nil
		}
		c.start(c.accepts)
		return len(p), c.err
	}
	c.send(p)
	return len(p), c.err
}

func (c *compressWriter) start(compress bool) {
	c.started = true
	h := c.Header()
	if h.Get("Content-Type") == "" && len(c.pending) > 0 {
		h.Set("Content-Type", http.DetectContentType(c.pending))
	}
	if compress && h.Get("Content-Encoding") == "" {
		h.Set("Content-Encoding", "gzip")
		h.Del("Content-Length")
		gz, err := gzip.NewWriterLevel(c.ResponseWriter, gzip.BestSpeed)
		if err != nil {
			c.err = err
			return
		}
		c.gz = gz
	}
	c.ResponseWriter.WriteHeader(c.status)
	pending := c.pending
	c.pending = nil
	c.send(pending)
}

func (c *compressWriter) send(p []byte) {
	if len(p) == 0 || c.err != nil {
		return
	}
	if c.gz != nil {
		_, c.err = c.gz.Write(p)
		return
	}
	_, c.err = c.ResponseWriter.Write(p)
}

// Flush sends everything written so far.
func (c *compressWriter) Flush() {
	if !c.started {
		c.start(c.accepts)
	}
	if c.gz != nil && c.err == nil {
		c.err = c.gz.Flush()
	}
	if f, ok := c.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap gives http.ResponseController access to the connection.
func (c *compressWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// finish sends what was held back and ends the compressed stream.
func (c *compressWriter) finish(l *logger.Logger) {
	if !c.started {
		c.start(false)
	}
	if c.gz != nil && c.err == nil {
		c.err = c.gz.Close()
	}
	if c.err != nil {
		l.Warnf("cannot send the answer to the client: %s", c.err)
	}
}
