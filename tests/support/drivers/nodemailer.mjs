// Sends with each printed mail.mjs. Lines of stdin: name, file, recipient.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

for await (const line of createInterface({ input: process.stdin })) {
  const [name, file, to] = line.split("\t");
  let outcome = "sent";
  try {
    const { transport } = await import(pathToFileURL(file));
    await transport.sendMail({ from: process.env.MAIL_FROM, to, subject: "hi", text: "hi" });
    transport.close();
  } catch (error) {
    outcome = String(error).replace(/\s+/g, " ");
  }
  console.log(`RESULT\t${name}\t${outcome}`);
}
