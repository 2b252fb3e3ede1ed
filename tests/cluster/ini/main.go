package main

import (
	"bufio"
	"fmt"
	"os"

	"gopkg.in/ini.v1"
)

// Prints a value of each file named on stdin as Grafana reads it.
func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		file, err := ini.Load(lines.Text())
		if err != nil {
			fmt.Printf("ERR %v\x00", err)
			continue
		}
		fmt.Print(file.Section("smtp").Key("user").String(), "\x00")
	}
}
