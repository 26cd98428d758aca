// Command frozen holds one of everything that the tests of package criu look for in a checkpoint: a child process,
// listeners, an open TCP connection over IPv4 and one over IPv6, UDP and unix sockets, a pipe and a plain file.
package main

import (
	"net"
	"os"
	"os/exec"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		time.Sleep(time.Hour)
	}
	child := exec.Command("/proc/self/exe", "child")
	must(child.Start())
	for _, address := range []string{"127.0.0.1:8080", "[::1]:8081"} {
		listener, err := net.Listen("tcp", address)
		must(err)
		client, err := net.Dial("tcp", address)
		must(err)
		server, err := listener.Accept()
		must(err)
		defer func() { _, _ = client, server }()
	}
	_, err := net.ListenPacket("udp4", "0.0.0.0:5353")
	must(err)
	_, err = net.Listen("unix", "/tmp/app.sock")
	must(err)
	_, err = net.Listen("unix", "@abstract")
	must(err)
	file, err := os.Create("/tmp/state")
	must(err)
	_, err = file.WriteString("x")
	must(err)
	os.Stdout.WriteString("ready\n")
	_ = child.Wait()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
