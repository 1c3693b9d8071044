package model

import "sync"

// NoNumber is the number of series which their producer has not numbered.
const NoNumber = ^uint32(0)

// Space is a numbering of series by one producer of batches: the table of series an intake has seen, or the dictionary
// of a connection. As long as a space lives, a number in it means the same series. Who takes batches attaches to
// the space what it has found out about each series, by number, and needs neither key nor hash of a
// series it knows. It is safe for concurrent use.
//
// Numbers are dense: small ones are given first, so that consumers can keep arrays.
type Space struct {
	mu       sync.Mutex
	closed   bool
	attached map[any]Attachment
}

// Attachment is what a consumer keeps about the series of a space.
type Attachment interface {
	// Detach is called once, when the space has ended, and gives back what was reserved from the memory budget.
	// Batches which are under way may still use the attachment.
	Detach()
}

// NewSpace returns an empty space. Its producer closes it when the numbers end.
func NewSpace() *Space { return &Space{attached: map[any]Attachment{}} }

// Attach returns the attachment of a consumer, which create makes when there is none yet. A space which is closed
// gives a new one, detached, each time.
func (s *Space) Attach(consumer any, create func() Attachment) Attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.attached[consumer]; a != nil {
		return a
	}
	a := create()
	if s.closed {
		a.Detach()
		return a
	}
	s.attached[consumer] = a
	return a
}

// Release detaches what the consumer has attached, if anything.
func (s *Space) Release(consumer any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.attached[consumer]; a != nil {
		a.Detach()
		delete(s.attached, consumer)
	}
}

// Close ends the space: no new batches carry its numbers.
func (s *Space) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for consumer, a := range s.attached {
		a.Detach()
		delete(s.attached, consumer)
	}
}

// Keyer makes the keys of numbered series when somebody asks for them, which is seldom. It is safe for concurrent use: a batch is spread over
// nodes, each of which may ask.
type Keyer interface {
	// AppendKey appends the canonical key of a series. Number and hint are those given to AddNumbered.
	AppendKey(dst []byte, number uint32, hint uint64) []byte
}
