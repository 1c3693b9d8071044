package protoparser

import "sync"

// Pool keeps what parsers need for rows between requests. The zero Pool is ready to use, by several goroutines at a time.
type Pool[T any] struct{ values sync.Pool }

// Get returns a value which was put back as it is, or a new one.
func (p *Pool[T]) Get() *T {
	if x, ok := p.values.Get().(*T); ok {
		return x
	}
	return new(T)
}

// Put gives a value back, which the caller has cleared of what it refers to.
func (p *Pool[T]) Put(x *T) { p.values.Put(x) }
