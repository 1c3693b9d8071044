package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	fs := flag.NewFlagSet("dashboards", flag.ExitOnError)
	out := fs.String("out", "deployment/dashboards", "Folder for the dashboards")
	if err := fs.Parse(os.Args[1:]); err != nil {
		os.Exit(2) // it has said why
	}
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func all() []*dashboard { return []*dashboard{cluster(), single(), tenants(), backups()} }

func write(dir string) error {
	var errs []error
	for _, d := range all() {
		text, err := d.render()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, d.file), text, 0o644)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
