package trace

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// MaxChildren is the most steps a step may have.
const MaxChildren = 1000

// Span is a step of a request.
type Span struct {
	now     func() time.Time
	started time.Time

	mu struct {
		sync.Mutex
		message  string
		duration time.Duration // 0 until the end
		children []*Span
		attached []Node
	}
}

// Node is what a step has come to.
type Node struct {
	Message  string
	Duration time.Duration
	Children []Node
}

// New begins the trace of a request which has started at the given time.
func New(now func() time.Time, started time.Time, message string) *Span {
	s := &Span{now: now, started: started}
	s.mu.message = message
	return s
}

type spanKey struct{}

// From returns the step which the context belongs to, or nil.
func From(ctx context.Context) *Span {
	s, _ := ctx.Value(spanKey{}).(*Span)
	return s
}

// Within returns a context which belongs to the step.
func (s *Span) Within(ctx context.Context) context.Context {
	if s == nil {
		return ctx
	}
	return context.WithValue(ctx, spanKey{}, s)
}

// Begin begins a step within s.
func (s *Span) Begin(format string, args ...any) *Span {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.children) >= MaxChildren {
		return nil
	}
	child := New(s.now, s.now(), fmt.Sprintf(format, args...))
	s.mu.children = append(s.mu.children, child)
	return child
}

// End ends the step; what came of it is added to its message. Further ends only add to it.
func (s *Span) End(format string, args ...any) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.duration == 0 {
		s.mu.duration = max(1, s.now().Sub(s.started))
	}
	s.mu.message += fmt.Sprintf(format, args...)
}

// Attach adds steps which were taken elsewhere.
func (s *Span) Attach(n Node) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.attached) < MaxChildren {
		s.mu.attached = append(s.mu.attached, n)
	}
}

// Node returns what the step has come to by now.
func (s *Span) Node() Node {
	if s == nil {
		return Node{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := Node{Message: s.mu.message, Duration: s.mu.duration}
	if n.Duration == 0 {
		n.Duration = s.now().Sub(s.started)
	}
	for _, child := range s.mu.children {
		n.Children = append(n.Children, child.Node())
	}
	n.Children = append(n.Children, s.mu.attached...)
	return n
}
