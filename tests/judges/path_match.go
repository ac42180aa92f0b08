// Answers with path.Match. It prints the version of Go first. Then it reads lines: `P` and a pattern,
// or `T` and a topic, in hexadecimal digits. It answers a topic with `1`, `0`, or `E` if the pattern
// is refused. An empty line flushes the output.
package main

import (
	"bufio"
	"encoding/hex"
	"os"
	"path"
	"runtime"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	out.WriteString(runtime.Version() + "\n")
	out.Flush()
	in := bufio.NewScanner(os.Stdin)
	pattern := ""
	for in.Scan() {
		line := in.Text()
		if line == "" {
			out.Flush()
			continue
		}
		bytes, err := hex.DecodeString(line[1:])
		if err != nil {
			panic(err)
		}
		if line[0] == 'P' {
			pattern = string(bytes)
			continue
		}
		matched, err := path.Match(pattern, string(bytes))
		switch {
		case err != nil:
			out.WriteByte('E')
		case matched:
			out.WriteByte('1')
		default:
			out.WriteByte('0')
		}
	}
	out.Flush()
}
