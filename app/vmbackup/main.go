package main

import (
	"os"

	"vmcluster/lib/service"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(service.Main("vmbackup", version, &component{})) }
