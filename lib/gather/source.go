package gather

import "vmcluster/lib/storageapi"

// source is the stream of one node.
type source struct {
	index  int
	it     storageapi.SeriesIterator // nil when closed
	series *storageapi.Series        // the current one, valid until next
}

// next moves to the node's next series; false at its end.
func (s *source) next() bool {
	if !s.it.Next() {
		return false
	}
	s.series = s.it.At()
	return true
}

// end closes the stream after its last series and returns what became of the node.
func (s *source) end(name string) answer {
	a := answer{node: name, err: s.it.Err(), coverage: s.it.Coverage()}
	if err := s.close(); a.err == nil {
		a.err = err
	}
	return a
}

func (s *source) close() error {
	if s.it == nil {
		return nil
	}
	it := s.it
	s.it = nil
	return it.Close()
}
