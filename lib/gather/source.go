package gather

import (
	"context"

	"vmcluster/lib/storageapi"
)

// prefetch is the number of full chunks that wait for the reader, per node.
const prefetch = 2

// source is the stream of one node: a goroutine fills chunks, the reader empties them.
type source struct {
	index int
	name  string
	full  chan *chunk // closed at the end, after err and coverage are set
	err   error
	cov   storageapi.Coverage

	// The rest belongs to the reader.
	chunk *chunk
	pos   int
	ended bool
}

// pump copies the series of it into chunks until it ends or ctx does, and closes it.
func (s *source) pump(ctx context.Context, it storageapi.SeriesIterator, g *Gather) {
	defer close(s.full)
	c := g.getChunk()
	for it.Next() {
		c.add(it.At())
		if !c.full() {
			continue
		}
		select {
		case s.full <- c:
			c = g.getChunk()
		case <-ctx.Done():
			s.err = ctx.Err()
		}
		if s.err != nil {
			break
		}
	}
	if s.err == nil {
		s.err, s.cov = it.Err(), it.Coverage()
	}
	if err := it.Close(); s.err == nil {
		s.err = err
	}
	if len(c.series) == 0 {
		g.putChunk(c)
		return
	}
	select { // what came before a failure counts
	case s.full <- c:
	case <-ctx.Done():
		g.putChunk(c)
		if s.err == nil { // the end was reached, and is not handed on: the answer must not pass for whole
			s.err = ctx.Err()
		}
	}
}

// next moves the reader to the node's next series; false at its end.
func (s *source) next(g *Gather) bool {
	s.pos++
	for s.chunk == nil || s.pos >= len(s.chunk.series) {
		if s.chunk != nil {
			g.putChunk(s.chunk)
			s.chunk = nil
		}
		c, ok := <-s.full
		if !ok {
			s.ended = true
			return false
		}
		s.chunk, s.pos = c, 0
	}
	return true
}

func (s *source) key() []byte { return s.chunk.key(s.pos) }

// answer is what became of the node; only after its end.
func (s *source) answer() answer { return answer{node: s.name, err: s.err, coverage: s.cov} }

func (g *Gather) getChunk() *chunk {
	if c, ok := g.chunks.Get().(*chunk); ok {
		return c
	}
	return &chunk{}
}

func (g *Gather) putChunk(c *chunk) {
	if cap(c.data) <= maxPooledChunk {
		c.reset()
		g.chunks.Put(c)
	}
}
