package httpserver

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"vmcluster/lib/errkind"
)

// maxBodyWait is how long a client may take to send the next piece of a body, or to take the next
// piece of an answer. One that stalls must not hold a place among the concurrent requests, nor the
// memory of its answer, for ever.
const maxBodyWait = time.Minute

// patientBody is a request body whose every Read has a deadline, so that slow
// bodies of any size are fine while stalled ones fail.
type patientBody struct {
	io.ReadCloser
	out  *patientWriter
	conn *http.ResponseController
	wait time.Duration
}

// Read reads the next piece.
func (b *patientBody) Read(p []byte) (int, error) {
	b.out.extend() // the first Read may answer "100 Continue"
	if err := b.conn.SetReadDeadline(time.Now().Add(b.wait)); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Not the fault of what is sent: who tries again may succeed. The deadline stays, or the server would wait for the rest of
		// the body before it answers.
		err = errkind.New(errkind.Timeout, "the client has sent nothing for %s: %w", b.wait, err)
	case err != nil:
		// The server goes on reading after the body, to notice clients that
		// hang up. The body's deadline must not end that.
		_ = b.conn.SetReadDeadline(time.Time{}) // a closed connection has no deadline to lift
	}
	return n, err
}

// patientWriter is an answer whose every piece has a deadline.
type patientWriter struct {
	http.ResponseWriter
	conn *http.ResponseController
	wait time.Duration
}

// newPatientWriter returns a writer whose first deadline runs.
func newPatientWriter(w http.ResponseWriter, wait time.Duration) *patientWriter {
	pw := &patientWriter{ResponseWriter: w, conn: http.NewResponseController(w), wait: wait}
	pw.extend()
	return pw
}

// extend starts the deadline anew. What is sent outside of Write, by the server itself, falls under it too.
func (w *patientWriter) extend() {
	_ = w.conn.SetWriteDeadline(time.Now().Add(w.wait)) // a closed connection fails the next Write
}

// Write sends p piece by piece.
func (w *patientWriter) Write(p []byte) (int, error) {
	const piece = 256 << 10
	done := 0
	for {
		w.extend()
		n, err := w.ResponseWriter.Write(p[done:min(len(p), done+piece)])
		if done += n; err != nil || done == len(p) {
			return done, err
		}
	}
}

// Flush sends what the server has buffered.
func (w *patientWriter) Flush() {
	w.extend()
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap gives http.ResponseController access to the connection.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
