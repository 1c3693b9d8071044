package backupstore

import (
	"context"
	"fmt"
	"strings"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/fsstore"
)

// Open returns the store which the value of a flag names.
func Open(_ context.Context, flagName, url string) (backup.Store, error) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return nil, fmt.Errorf("cannot use -%s=%q: want a URL, such as fs:///mnt/backups/node1", flagName, url)
	}
	switch scheme {
	case "fs":
		s, err := fsstore.New(rest)
		if err != nil {
			return nil, fmt.Errorf("cannot use -%s=%q: %w", flagName, url, err)
		}
		return s, nil
	default:
		return nil, fmt.Errorf("cannot use -%s=%q: no store is known for %s://; known is fs://", flagName, url, scheme)
	}
}
