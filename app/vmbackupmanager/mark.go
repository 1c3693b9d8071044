package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs"
)

// markName is the name of the file in the data directory which says what to restore at the next start.
const markName = "restore_request"

const markVersion = 1

// restoreMark is its contents.
type restoreMark struct {
	Version int    `json:"version,omitempty"`
	Backup  string `json:"backup"` // the name of one below -dst, or the URL of any
}

// readMark returns what is to be restored, "" if nothing is.
func readMark(fsys vfs.FS, dataPath string) (string, error) {
	name := filepath.Join(dataPath, markName)
	data, err := fsys.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	m, err := parseMark(data)
	if err != nil {
		return "", fmt.Errorf("cannot read what to restore from %q: %w; delete it by vmbackupmanager restore delete", name, err)
	}
	return m.Backup, nil
}

func parseMark(data []byte) (m restoreMark, err error) {
	if err := json.Unmarshal(data, &m); err != nil {
		return m, errkind.New(errkind.Corrupt, "%w", err)
	}
	if m.Version != markVersion {
		return m, errkind.New(errkind.Unsupported, "it has version %d, this release reads version %d", m.Version, markVersion)
	}
	return m, checkRestorable(m.Backup)
}

// checkRestorable refuses what is neither the name of a backup nor a URL.
func checkRestorable(name string) error {
	if _, ok := kindOf(name); !ok && !strings.Contains(name, "://") {
		return errkind.New(errkind.BadRequest, "%q is no backup: want a name such as daily/2026-11-22, as vmbackupmanager backup list shows them, or a URL such as s3://bucket/node1/latest", name)
	}
	return nil
}

func writeMark(fsys vfs.FS, dataPath, name string) error {
	data, err := json.Marshal(restoreMark{Version: markVersion, Backup: name})
	if err != nil {
		return err
	}
	if err := vfs.MkdirAllDurable(fsys, dataPath); err != nil {
		return err
	}
	return vfs.WriteFileDurable(fsys, filepath.Join(dataPath, markName), append(data, '\n'))
}

// deleteMark removes the mark; none is no error.
func deleteMark(fsys vfs.FS, dataPath string) error {
	if err := fsys.Remove(filepath.Join(dataPath, markName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fsys.SyncDir(dataPath)
}
