package backup

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"vmcluster/lib/errkind"
)

// Found is a backup, or what is left or begun of one.
type Found struct {
	Name      string // prefix of the keys of its objects
	SizeBytes int64  // of the pieces that are there
	CreatedAt time.Time
	Complete  bool // it is whole
	Locked    bool
}

// Find returns the backups below the prefixes of keys that nameOf finds; what it does not know is left out. Root is the store of them all.
func Find(ctx context.Context, root Store, concurrency int, nameOf func(key string) (name, rest string, ok bool)) (map[string]*Found, error) {
	found := map[string]*Found{}
	var whole []*Found
	err := root.List(ctx, func(key string, size int64) {
		name, rest, ok := nameOf(key)
		if !ok || !isOurs(rest) {
			return
		}
		f := found[name]
		if f == nil {
			f = &Found{Name: name}
			found[name] = f
		}
		switch rest {
		case markKey:
			whole = append(whole, f)
		case lockKey:
			f.Locked = true
		case listKey:
		default:
			f.SizeBytes += size
		}
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", root, err)
	}
	err = each(ctx, concurrency, whole, func(ctx context.Context, f *Found) error { return f.readMark(ctx, root) })
	return found, err
}

func isOurs(key string) bool {
	return key == listKey || key == markKey || key == lockKey || isPiece(key)
}

// readMark tells when a whole backup was made. One whose mark is gone meanwhile is being deleted.
func (f *Found) readMark(ctx context.Context, root Store) error {
	data, err := readObject(ctx, root, path.Join(f.Name, markKey))
	if errkind.Of(err) == errkind.NotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read when %s of %s was made: %w", f.Name, root, err)
	}
	var mark struct {
		CreatedAt time.Time `json:"created_at"`
	}
	if err := json.Unmarshal(data, &mark); err != nil {
		return nil //nolint:nilerr // without a mark that can be read it is no whole backup
	}
	f.CreatedAt, f.Complete = mark.CreatedAt, true
	return nil
}

// Lock protects the backup of a store from Remove, or no longer.
func Lock(ctx context.Context, s Store, locked bool) error {
	var err error
	if locked {
		err = putBytes(ctx, s, lockKey, []byte("locked\n"))
	} else {
		err = s.Delete(ctx, lockKey)
	}
	if err != nil {
		return fmt.Errorf("cannot change the lock of %s: %w", s, err)
	}
	return nil
}

// Remove deletes the backup of a store unless it is locked: first the mark, so that it never passes for whole while it goes, then its pieces, the list
// last. Objects which are none of its own stay. The caller sees to it that nobody locks it before the mark is gone, which begun tells.
func Remove(ctx context.Context, s Store, concurrency int, begun func()) error {
	if _, err := readObject(ctx, s, lockKey); errkind.Of(err) != errkind.NotFound {
		if err == nil {
			err = errkind.New(errkind.Unavailable, "cannot remove %s: it is locked", s)
		}
		return err
	}
	if err := s.Delete(ctx, markKey); err != nil {
		return fmt.Errorf("cannot delete %q of %s: %w", markKey, s, err)
	}
	begun()
	objects, err := keys(ctx, s)
	if err != nil {
		return err
	}
	var pieces []string
	for key := range objects {
		if isPiece(key) {
			pieces = append(pieces, key)
		}
	}
	err = each(ctx, concurrency, pieces, s.Delete)
	if err == nil {
		err = s.Delete(ctx, listKey)
	}
	if err != nil {
		return fmt.Errorf("cannot remove all of %s: %w", s, err)
	}
	return nil
}
