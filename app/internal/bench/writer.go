package bench

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// writeDataset writes the dataset that fill makes. The manifest is written last, so a folder with one is complete.
func writeDataset(dir string, fill func(sink func(Body) error) (*Manifest, error)) (*Manifest, error) {
	w, err := newBodyWriter(dir)
	if err != nil {
		return nil, err
	}
	m, err := fill(w.write)
	err = errors.Join(err, w.close())
	if err != nil {
		return nil, fmt.Errorf("cannot write dataset %q: %w", dir, err)
	}
	return m, writeManifest(dir, m)
}

// bodyWriter writes the records of a dataset.
type bodyWriter struct {
	file   *os.File
	w      *bufio.Writer
	header []byte
}

func newBodyWriter(dir string) (*bodyWriter, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot create folder of dataset: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, manifestFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot replace dataset %q: %w", dir, err)
	}
	file, err := os.Create(filepath.Join(dir, bodiesFile))
	if err != nil {
		return nil, fmt.Errorf("cannot write dataset %q: %w", dir, err)
	}
	return &bodyWriter{file: file, w: bufio.NewWriterSize(file, 1<<20)}, nil
}

func (w *bodyWriter) write(b Body) error {
	w.header = w.header[:0]
	for _, v := range []int{len(b.Data), b.Samples, b.Scrape, b.Shard} {
		w.header = binary.LittleEndian.AppendUint32(w.header, uint32(v))
	}
	if _, err := w.w.Write(w.header); err != nil {
		return err
	}
	_, err := w.w.Write(b.Data)
	return err
}

func (w *bodyWriter) close() error { return errors.Join(w.w.Flush(), w.file.Close()) }

func writeManifest(dir string, m *Manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write manifest of dataset: %w", err)
	}
	return nil
}
