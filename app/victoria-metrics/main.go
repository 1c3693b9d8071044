package main

import (
	"os"
	_ "time/tzdata" // time zones for queries, on machines without a database of them

	"vmcluster/lib/service"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(service.Main("victoria-metrics", version, &component{})) }
