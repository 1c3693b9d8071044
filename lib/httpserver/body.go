package httpserver

import (
	"io"
	"net/http"
	"time"
)

// maxBodyWait is how long a client may take to send the next piece of a body.
// A sender that stalls must not hold a place among the concurrent requests for ever.
const maxBodyWait = time.Minute

// patientBody is a request body whose every Read has a deadline, so that slow
// bodies of any size are fine while stalled ones fail.
type patientBody struct {
	io.ReadCloser
	conn *http.ResponseController
	wait time.Duration
}

// Read reads the next piece.
func (b *patientBody) Read(p []byte) (int, error) {
	if err := b.conn.SetReadDeadline(time.Now().Add(b.wait)); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		// The server goes on reading after the body, to notice clients that
		// hang up. The body's deadline must not end that.
		_ = b.conn.SetReadDeadline(time.Time{}) // a closed connection has no deadline to lift
	}
	return n, err
}
