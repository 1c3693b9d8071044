package rpclisten

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"vmcluster/lib/service"
)

// Server serves one of the protocols.
type Server interface {
	Serve(ln net.Listener) error
	Shutdown(ctx context.Context) error
}

// Port is where a kind of node connects to this process.
type Port struct {
	Peer   string // the kind of node
	Flag   string // the flag that holds the address, without dash
	Addr   string // its value
	Server Server
	// StopTimeout is how long requests under way may take when the process stops.
	StopTimeout time.Duration
}

// Listen opens the port and serves it in the background until the process stops.
func Listen(env *service.Env, p Port) error {
	ln, err := net.Listen("tcp", p.Addr)
	if err != nil {
		if strings.Contains(err.Error(), "address already in use") {
			err = fmt.Errorf("the port is taken by another process; stop that process or choose another address: %w", err)
		}
		return fmt.Errorf("cannot listen at -%s=%q: %w", p.Flag, p.Addr, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Server.Serve(ln); err != nil {
			env.Logger.Errorf("cannot serve %s at %s: %s", p.Peer, ln.Addr(), err)
		}
	}()
	env.Logger.Infof("accepting %s conns at %s", p.Peer, ln.Addr())
	env.OnStop(p.Peer+" server", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), p.StopTimeout)
		defer cancel()
		if err := p.Server.Shutdown(ctx); err != nil {
			env.Logger.Warnf("cut off requests of %s that did not end within %s: %s", p.Peer, p.StopTimeout, err)
		}
		<-done
		return nil
	})
	return nil
}
