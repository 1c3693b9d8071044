package httpserver

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/logger"
)

// Answers below this size are sent as they are. They are on their way at once, compressed or not, since the first window of a TCP
// connection has room for them; to compress one of 6 KiB takes a tenth of what a small query costs vmselect.
const minCompressBytes = 8 << 10

// encoding is a way to compress answers, as Content-Encoding names it.
type encoding string

const (
	encodingNone encoding = ""
	encodingGzip encoding = "gzip"
	encodingZstd encoding = "zstd"
)

// acceptedEncoding returns the best way that an Accept-Encoding header allows. zstd takes less time than gzip for smaller answers.
func acceptedEncoding(header string) encoding {
	best := encodingNone
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(part, ";")
		if _, q, ok := strings.Cut(params, "q="); ok {
			if weight, err := strconv.ParseFloat(strings.TrimSpace(q), 64); err != nil || weight <= 0 {
				continue
			}
		}
		switch e := encoding(strings.ToLower(strings.TrimSpace(name))); e {
		case encodingZstd:
			return e
		case encodingGzip:
			best = e
		}
	}
	return best
}

// compressor is what the writers of both encodings have in common.
type compressor interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

// compressors keeps writers for the next answer: a new one takes some hundred kilobytes.
type compressors struct {
	gzips, zstds sync.Pool
	starts       bytesutil.Pool // of answers
}

func (c *compressors) get(e encoding, w io.Writer) (compressor, error) {
	if z, ok := c.pool(e).Get().(compressor); ok {
		z.Reset(w)
		return z, nil
	}
	if e == encodingGzip {
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	}
	// No goroutine, and a window that every client has room for.
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
}

// put takes a writer back, which is closed.
func (c *compressors) put(e encoding, z compressor) {
	z.Reset(nil)
	c.pool(e).Put(z)
}

func (c *compressors) pool(e encoding) *sync.Pool {
	if e == encodingGzip {
		return &c.gzips
	}
	return &c.zstds
}

// compressWriter compresses the answer when the client accepts that and the
// answer is large enough to gain from it.
type compressWriter struct {
	http.ResponseWriter
	pool    *compressors
	accepts encoding
	status  int
	pending *bytesutil.Buffer // the start of the answer until it is clear how to send it
	started bool
	z       compressor
	err     error
}

func (s *Server) compress(w http.ResponseWriter, r *http.Request) *compressWriter {
	c := &compressWriter{ResponseWriter: w, pool: &s.compressors, status: http.StatusOK, pending: s.compressors.starts.Get()}
	if !s.o.Config.DisableCompression && r.Method != http.MethodHead {
		c.accepts = acceptedEncoding(r.Header.Get("Accept-Encoding"))
	}
	return c
}

// WriteHeader remembers the status until the first bytes are sent.
func (c *compressWriter) WriteHeader(status int) { c.status = status }

// Write sends, compresses or holds back the bytes.
func (c *compressWriter) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if !c.started {
		first := p // not copied if it is long
		if len(c.pending.B) > 0 || len(p) < minCompressBytes {
			c.pending.B = append(c.pending.B, p...)
			first = c.pending.B
		}
		if len(first) >= minCompressBytes {
			c.start(c.accepts, first)
		}
		return len(p), c.err
	}
	c.send(p)
	return len(p), c.err
}

// start begins the answer with its first bytes.
func (c *compressWriter) start(e encoding, first []byte) {
	c.started = true
	h := c.Header()
	if h.Get("Content-Type") == "" && len(first) > 0 {
		h.Set("Content-Type", http.DetectContentType(first))
	}
	if e != encodingNone && h.Get("Content-Encoding") == "" {
		if c.z, c.err = c.pool.get(e, c.ResponseWriter); c.err != nil {
			return
		}
		h.Set("Content-Encoding", string(e))
		h.Del("Content-Length")
	}
	c.ResponseWriter.WriteHeader(c.status)
	c.send(first)
	c.pool.starts.Put(c.pending)
	c.pending = nil
}

func (c *compressWriter) send(p []byte) {
	if len(p) == 0 || c.err != nil {
		return
	}
	if c.z != nil {
		_, c.err = c.z.Write(p)
		return
	}
	_, c.err = c.ResponseWriter.Write(p)
}

// Flush sends everything written so far.
func (c *compressWriter) Flush() {
	if !c.started {
		c.start(c.accepts, c.pending.B)
	}
	if c.z != nil && c.err == nil {
		c.err = c.z.Flush()
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
		if c.Header().Get("Content-Length") == "" && len(c.pending.B) > 0 {
			c.Header().Set("Content-Length", strconv.Itoa(len(c.pending.B))) // else it would be sent in chunks
		}
		c.start(encodingNone, c.pending.B)
	}
	if c.z != nil && c.err == nil {
		if c.err = c.z.Close(); c.err == nil {
			c.pool.put(c.accepts, c.z)
			c.z = nil
		}
	}
	if c.err != nil {
		l.Warnf("cannot send the answer to the client: %s", c.err)
	}
}
