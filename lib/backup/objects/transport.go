package objects

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// TuneTransport makes a transport give up connections that are silent for too long, in either direction, however long a request takes.
func TuneTransport(t *http.Transport, o *Options, skipVerify bool) {
	silence, dial := o.Silence, o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: min(silence, 30*time.Second), KeepAlive: 30 * time.Second}).DialContext
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &watchedConn{Conn: conn, silence: silence}, nil
	}
	// One connection for each request under way: on one for all of them a stalled request would look alive, and they would share its window.
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 256, 256
	t.IdleConnTimeout = min(silence, 30*time.Second)
	t.TLSHandshakeTimeout = min(silence, 20*time.Second)
	t.DisableCompression = true // objects come as they are
	if skipVerify {
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		t.TLSClientConfig.InsecureSkipVerify = true
	}
}

// NewTransport returns a transport of that kind. The caller closes its idle connections when it has no more use for it.
func NewTransport(o *Options) *http.Transport {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment}
	TuneTransport(t, o, false)
	return t
}

// watchedConn is a connection on which something must move. Reading and writing put off both deadlines: while a body is sent, the transport
// waits for the answer already.
type watchedConn struct {
	net.Conn
	silence time.Duration
}

// Read implements net.Conn.
func (c *watchedConn) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *watchedConn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
