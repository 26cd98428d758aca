// Has a tab compute something, as programs that steer a browser do.
(async () => {
  const tabs = await (await fetch('http://127.0.0.1:9222/json/list')).json();
  const tab = new WebSocket(tabs.find(({ type }) => type === 'page').webSocketDebuggerUrl);
  tab.onopen = () => tab.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: 'document.title + 6 * 7' } }));
  tab.onmessage = ({ data }) => process.exit(JSON.parse(data).result.result.value === 'tab42' ? 0 : 1);
  tab.onerror = () => process.exit(1);
})();
