package backup

import (
	"context"
	"fmt"
	"io"
)

// Store keeps objects under keys, texts with slashes. It is safe for concurrent use.
type Store interface {
	// List calls visit for all objects, in any order, with their sizes in bytes.
	List(ctx context.Context, visit func(key string, size int64)) error
	// Put writes an object, over the one that is there. It appears as a whole or not at all. The body may be read more than once; nothing of it is kept.
	Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error
	// Get opens an object for reading; errors of kind NotFound tell that it is not there.
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, key string) error
	// CopyFrom copies an object of another store to the same key of this one without its bytes coming by here, as Put does. It reports
	// false if it cannot from that store.
	CopyFrom(ctx context.Context, from Store, key string, size int64) (bool, error)
	// Stringer names the store in messages.
	fmt.Stringer
}
