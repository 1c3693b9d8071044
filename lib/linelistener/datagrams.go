package linelistener

import (
	"errors"
	"net"
	"os"
	"sync"
)

const (
	// maxDatagram is the largest there is.
	maxDatagram = 64 << 10
	// maxWaiting is how many bytes of datagrams may wait while others are being stored.
	maxWaiting = 8 << 20
)

// datagrams are those which wait to be stored.
type datagrams struct {
	wake chan struct{} // has room for one

	mu struct {
		sync.Mutex
		waiting []byte
		ended   bool
	}
}

// startDatagrams reads datagrams in one goroutine and stores them in another, all that wait at a time.
func (s *Server) startDatagrams() {
	d := &datagrams{wake: make(chan struct{}, 1)}
	s.wg.Go(func() {
		s.readDatagrams(d)
		d.end()
		_ = s.udp.Close() // nobody reads it any more
	})
	s.wg.Go(func() {
		var spare []byte
		for more := true; more; {
			var text []byte
			if text, more = d.take(spare); len(text) == 0 {
				continue
			}
			if err := s.o.Store(s.ctx, text); err != nil {
				s.count.datagramErrors.Inc()
				s.warn.Warnf("cannot store all lines which came in datagrams at -%s, the others are lost: %s", s.o.Flag, err)
			}
			spare = text[:0]
		}
	})
}

func (s *Server) readDatagrams(d *datagrams) {
	buf := make([]byte, maxDatagram)
	for last := false; ; {
		if err := s.setDeadline(s.udp); err != nil {
			return
		}
		n, _, err := s.udp.ReadFromUDPAddrPort(buf)
		switch {
		case n > 0:
			s.count.datagrams.Inc()
			s.count.datagramBytes.Add(n)
			if !d.add(buf[:n]) {
				s.count.drops.Inc()
				s.warn.Warnf("cannot keep datagrams which come at -%s faster than they can be stored, those that do not fit in %d bytes are dropped", s.o.Flag, maxWaiting)
			}
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if last {
				return
			}
			last = s.isStopping() // once more: behind a deadline nobody looks for datagrams
		case errors.Is(err, net.ErrClosed):
			return
		default:
			s.count.datagramErrors.Inc()
		}
	}
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.stopping
}

// add lets a datagram wait, if there is room.
func (d *datagrams) add(text []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.mu.waiting)+len(text)+1 > maxWaiting {
		return false
	}
	d.mu.waiting = append(d.mu.waiting, text...)
	if text[len(text)-1] != '\n' {
		d.mu.waiting = append(d.mu.waiting, '\n')
	}
	d.signal()
	return true
}

func (d *datagrams) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.ended = true
	d.signal()
}

func (d *datagrams) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// take waits for datagrams and returns all of them, for which spare is used from then on; more is false when no others will follow.
func (d *datagrams) take(spare []byte) (text []byte, more bool) {
	<-d.wake
	d.mu.Lock()
	defer d.mu.Unlock()
	text, d.mu.waiting = d.mu.waiting, spare
	return text, !d.mu.ended
}
