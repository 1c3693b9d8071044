package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Disk is the size of data folders.
type Disk struct {
	Bytes          int64   `json:"bytes"`
	Allocated      int64   `json:"allocated"` // with what is lost to whole blocks of the file system
	Files          int64   `json:"files"`
	Index          int64   `json:"index"` // of it the index, so far as the paths tell
	Log            int64   `json:"log"`   // of it the write-ahead log
	BytesPerSample float64 `json:"bytes_per_sample,omitempty"`
}

// MeasureDisk returns the size of the folders, hard links counted once. Samples may be 0.
func MeasureDisk(samples int64, dirs ...string) (Disk, error) {
	var d Disk
	seen := map[uint64]bool{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil // the server has just removed it
			}
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			return d.add(dir, path, entry, seen)
		})
		if err != nil {
			return d, fmt.Errorf("cannot measure the size of folder %q: %w", dir, err)
		}
	}
	if samples > 0 {
		d.BytesPerSample = float64(d.Bytes) / float64(samples)
	}
	return d, nil
}

func (d *Disk) add(root, path string, entry fs.DirEntry, seen map[uint64]bool) error {
	info, err := entry.Info()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("no file status of %q", path)
	}
	if seen[st.Ino] {
		return nil
	}
	seen[st.Ino] = true
	d.Bytes, d.Allocated, d.Files = d.Bytes+st.Size, d.Allocated+st.Blocks*512, d.Files+1
	relative, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	switch parts := strings.Split(relative, string(filepath.Separator)); {
	case slices.Contains(parts, "indexdb") || slices.Contains(parts, "index"): // folders of VictoriaMetrics and ours, file of Prometheus
		d.Index += st.Size
	case slices.Contains(parts, "wal"):
		d.Log += st.Size
	}
	return nil
}
