// The page's words in English, Indonesian and Russian. Elements with data-t
// (text), data-l (label) and data-p (placeholder) follow the chosen language.
import { h } from "./dom.js";

const en = {
  skip: "Skip to content", simulated: "SIMULATED", mask: "Hide personal data", language: "Language", tabs: "Tasks",
  maskHelp: "E-mail addresses, user names, links, phone, card and account numbers are replaced before your text leaves, and put back into the answer; in summaries, replies and searches, the names of those who write too. Other names and what the text itself tells stay.",
  compose: "Compose", summarise: "Summarise", search: "Search", proof: "Proof", reader: "Messages", replies: "Suggested replies",
  composeTitle: "Your draft", draft: "Draft", draftHint: "Write or paste what you want to send", ctrlEnter: "Control and Enter starts.",
  what: "What to do", proofread: "Correct mistakes", emojify: "Add emoji", translateTo: "Translate into", translateNot: "Do not translate",
  tone: "Tone", toneKeep: "Keep as it is", tone_formal: "Formal", tone_professional: "Professional", tone_friendly: "Friendly", tone_short: "Short", tone_supportive: "Supportive", tone_funny: "Funny", toneOwn: "In my own words…",
  ownTone: "The tone, in your own words", ownToneHelp: "For example: like a calm teacher. At most 512 characters.",
  improve: "Improve", stop: "Stop", working: "Working…", drafting: "Being written; this may still change:", stopped: "Stopped. Nothing more is generated or charged.",
  result: "Result", changes: "Changes", newText: "New text", unchanged: "Nothing had to be changed.", unimproved: "The model gave nothing usable; your draft is as it was.", entitiesLost: "Formatting that could not be kept: {n}", copy: "Copy", copied: "Copied", notCopied: "This browser does not let the page copy; select the text instead.", useDraft: "Use as draft", inDraft: "It is in your draft now",
  repliesTitle: "Reply to a message", received: "Message you received", receivedHint: "Paste one message, or the last few as “Name: text”", suggest: "Suggest replies", repliesHelp: "Choose one to put it into your draft. Nothing is sent by itself.",
  summariseTitle: "Summarise", source: "What", sourcePaste: "A pasted text", sourceChat: "A chat from a file", pasteText: "Text", pasteHint: "Paste messages or any text",
  file: "Exported chat (JSON)", fileChoose: "Choose a file…", fileHelp: "In Telegram Desktop: open the chat, menu, Export chat history, format JSON. The file is read in this browser; only what you choose is sent.", chat: "Chat", me: "I am", meUnknown: "Not said", loaded: "{name}: {n} messages with text",
  range: "Which messages", rangeLast: "The last ones", rangeMine: "Unread: since my last message", rangeDates: "Between two days", rangeFrom: "From a message on", rangeFromHelp: "Choose “From here” at a message in the list.", lastN: "How many (at most 200)", since: "From", until: "To (included)",
  willSend: "Messages that will be sent: {n}", tooMany: "{n} messages; the newest {most} will be sent.", sayWho: "Say who you are, above.", length: "Length", lengthBullets: "Bullets", lengthShort: "Two or three sentences", lengthLine: "One sentence", summaryTo: "Language of the summary", sameLanguage: "As the messages", summariseGo: "Summarise",
  summary: "Summary", byAI: "Written by AI. The numbers lead to the messages: check what matters.", points: "In short", decisions: "Decisions", questions: "Open questions",
  countMessages: "{n}", backToAnswer: "Back to the answer", earlier: "Show earlier messages", later: "Show later messages", fromHere: "From here", someone: "Someone", goTo: "Go to message: {m}",
  searchTitle: "Search a chat", indexHelp: "Each message is sent once to a worker of the network, for the numbers that stand for its meaning. Text and numbers are kept encrypted by this service; deleting destroys their keys.", indexGo: "Index this chat", indexing: "Indexing… {n} of {all}", indexed: "Indexed: {n} messages of this chat; {all} in the index.", dropIndex: "Delete this chat from the index", dropped: "Deleted from the index: {n} messages.",
  query: "Search for", queryHint: "Words or a question", how: "How", byWords: "By words (stays in this browser)", byMeaning: "By words and meaning (the service's index)", searchGo: "Search", hits: "Found", hitsLocal: "{n} messages; nothing left this browser.", noHits: "Nothing found. Try other words.",
  fallback: "The model gave nothing usable; this was made by plainer means.", attested: "Hardware attested", unproved: "Not proved", sealedYes: "Sealed", sealedProxy: "Not sealed", sealedMixed: "Partly sealed", sealedUnknown: "Sealing not told", showProof: "What proves this?",
  proofTitle: "Proof of your answers", proofIntro: "Each answer says who made it, how far that was checked, and what it cost. The list is in this page only.", noAnswers: "No answers yet. Use another tab first.", serviceTitle: "This service",
  simulatedText: "This network runs on simulated hardware, for trying things out. Nothing here proves that a machine keeps your text secret: do not send real secrets. The coins are play money.",
  checked: "What was checked", noCalls: "No model was asked for this answer, so there is nothing to prove.",
  verdict_hardware: "The machine's processor signed what software runs inside its protected memory. Before your text was sent, that signature was checked up to the maker's key, and the software against the list published on chain.",
  verdict_simulated: "All the checks were made and passed, but the evidence came from a simulator: any computer can make it.",
  verdict_mixed: "Several calls made this answer, and they were not all proved in the same way. Take the weakest as what holds.", verdict_none: "Nothing was proved about the machine that answered. Its operator may have read the text.",
  sealedYesText: "Your text was encrypted for the worker alone: what stands between carried it without reading it.", sealedProxyText: "Your text was encrypted on the way to the proxy; inside it, the proxy could read it.", sealedMixedText: "Some calls of this answer were sealed for the worker, others only to the proxy.", sealedUnknownText: "The service did not say how far your text was encrypted.",
  facts: "Facts", cost: "Cost", tokens: "Tokens", tokenCounts: "{i} in, {o} out", calls: "Calls", model: "Model", embedModel: "Embeddings", prompt: "Instruction", verdict: "Verdict on the worker", image: "Image of the worker", proxy: "Proxy", proxyImage: "Image of the proxy", receiptsTitle: "Receipts", receipt: "Receipt", receiptsText: "A receipt is signed by the worker, on what was served, and by the proxy, on what was charged. It holds commitments to your text, not the text.",
  receiptShow: "Show receipt", receiptSave: "Export as JSON", receiptVerify: "This file also holds the salts that tie the receipt to your text: keep it to yourself. For others to check, without your text: cocoon receipt export {id} on the machine of this service, then cocoon receipt verify FILE anywhere.", receiptLater: "This receipt is not there yet; it comes a few seconds after the answer. Try again.", noReceipts: "The service gave no receipt for this answer.",
  notProved: "What it does not prove", notTrue: "That the answer is right. Models err; check what matters.", notCount: "That tokens were counted honestly: the counts are the worker's word.", notTelegram: "That others have not seen your messages: Telegram, and all in the chat, still have them.", notWho: "Who asked. A receipt names a paying contract, not a person.", notHardware: "Anything about hardware.", notBroken: "That the processor is free of flaws nobody knows yet.",
  key: "This service wants an access key", keyUse: "Use",
  retryAfter: "Try again in {n} seconds.", err_offline: "The service does not answer. Is it running?", err_answer_incomplete: "The answer broke off. Try again.", err_rate_limit_exceeded: "Too many requests at once.", err_insufficient_balance: "The balance is used up.", err_peer_not_verified: "No machine passed the checks, so nothing was sent.", err_seal_unavailable: "The text could not be sealed, so nothing was sent.", err_service_unavailable: "Nobody can answer at the moment.", err_timeout: "It took too long.", err_upstream_error: "The model failed.", err_request_too_large: "That is too much at once.", err_missing_required_parameter: "Something is missing.", err_session_required: "Open this app again from its bot in Telegram.", err_insufficient_quota: "Today's budget is used up.", err_request: "The request was refused.", err_page: "This page failed. Reload it; if it comes again, tell its maker.",
  err_noDraft: "Write a draft first.", err_nothingAsked: "Choose at least one thing to do.", err_noMessage: "Paste a message first.", err_noText: "Paste a text first.", err_noChat: "Load a chat file first.", err_emptyRange: "There are no messages in this range.", err_noQuery: "Type what to search for.",
  err_notJSON: "This file is not JSON. In Telegram Desktop choose the format “Machine-readable JSON”.", err_notExport: "This file holds no chat as Telegram exports it, or no message with text.", err_secretChat: "This file holds a secret chat. Those stay between two devices; this page does not take them.", err_fileTooLarge: "This file is larger than 256 MiB. Export less at once, without media.",
  indexTitle: "Index for meaning and questions",
  index: "Index",
  byAsking: "Answer my question (the service's index)",
  answer: "Answer",
  noAnswer: "No answer was given. This is what was found:",
  notIndexed: "Nothing found in the index. Has this chat been indexed?",
  intent_accept: "accept", intent_decline: "decline", intent_ask: "ask", intent_thank: "thank", intent_later: "later",
};

const id = {
  skip: "Langsung ke isi", simulated: "SIMULATED · SIMULASI", mask: "Sembunyikan data pribadi", language: "Bahasa", tabs: "Tugas",
  maskHelp: "Alamat surel, nama pengguna, tautan, nomor telepon, kartu, dan rekening diganti sebelum teks Anda dikirim, lalu dikembalikan dalam jawaban; dalam ringkasan, balasan, dan pencarian, nama para penulis juga. Nama lain dan isi teksnya sendiri tetap.",
  compose: "Tulis", summarise: "Ringkas", search: "Cari", proof: "Bukti", reader: "Pesan", replies: "Saran balasan",
  composeTitle: "Draf Anda", draft: "Draf", draftHint: "Tulis atau tempel yang ingin Anda kirim", ctrlEnter: "Control dan Enter memulai.",
  what: "Yang dilakukan", proofread: "Perbaiki kesalahan", emojify: "Tambahkan emoji", translateTo: "Terjemahkan ke", translateNot: "Jangan terjemahkan",
  tone: "Nada", toneKeep: "Biarkan", tone_formal: "Formal", tone_professional: "Profesional", tone_friendly: "Ramah", tone_short: "Singkat", tone_supportive: "Mendukung", tone_funny: "Lucu", toneOwn: "Dengan kata saya…",
  ownTone: "Nada, dengan kata Anda sendiri", ownToneHelp: "Misalnya: seperti guru yang tenang. Paling banyak 512 karakter.",
  improve: "Perbaiki", stop: "Berhenti", working: "Sedang bekerja…", drafting: "Sedang ditulis; masih bisa berubah:", stopped: "Dihentikan. Tidak ada lagi yang dibuat atau ditagih.",
  result: "Hasil", changes: "Perubahan", newText: "Teks baru", unchanged: "Tidak ada yang perlu diubah.", unimproved: "Model tidak memberi hasil yang dapat dipakai; draf Anda tetap seperti semula.", entitiesLost: "Format yang tidak dapat dipertahankan: {n}", copy: "Salin", copied: "Disalin", notCopied: "Peramban ini tidak mengizinkan halaman menyalin; pilih teksnya sendiri.", useDraft: "Pakai sebagai draf", inDraft: "Sudah ada di draf Anda",
  repliesTitle: "Balas pesan", received: "Pesan yang Anda terima", receivedHint: "Tempel satu pesan, atau beberapa yang terakhir sebagai “Nama: teks”", suggest: "Sarankan balasan", repliesHelp: "Pilih satu untuk dimasukkan ke draf. Tidak ada yang terkirim sendiri.",
  summariseTitle: "Ringkas", source: "Apa", sourcePaste: "Teks yang ditempel", sourceChat: "Obrolan dari berkas", pasteText: "Teks", pasteHint: "Tempel pesan atau teks apa pun",
  file: "Obrolan yang diekspor (JSON)", fileChoose: "Pilih berkas…", fileHelp: "Di Telegram Desktop: buka obrolan, menu, Ekspor riwayat obrolan, format JSON. Berkas dibaca di peramban ini; hanya yang Anda pilih yang dikirim.", chat: "Obrolan", me: "Saya adalah", meUnknown: "Tidak disebutkan", loaded: "{name}: {n} pesan dengan teks",
  range: "Pesan yang mana", rangeLast: "Yang terakhir", rangeMine: "Belum dibaca: sejak pesan terakhir saya", rangeDates: "Di antara dua hari", rangeFrom: "Mulai dari sebuah pesan", rangeFromHelp: "Pilih “Dari sini” pada sebuah pesan di daftar.", lastN: "Berapa (paling banyak 200)", since: "Dari", until: "Sampai (termasuk)",
  willSend: "Pesan yang akan dikirim: {n}", tooMany: "{n} pesan; {most} terbaru akan dikirim.", sayWho: "Sebutkan siapa Anda, di atas.", length: "Panjang", lengthBullets: "Butir", lengthShort: "Dua atau tiga kalimat", lengthLine: "Satu kalimat", summaryTo: "Bahasa ringkasan", sameLanguage: "Seperti pesannya", summariseGo: "Ringkas",
  summary: "Ringkasan", byAI: "Ditulis oleh AI. Angka menuju ke pesannya: periksa yang penting.", points: "Singkatnya", decisions: "Keputusan", questions: "Pertanyaan terbuka",
  countMessages: "{n}", backToAnswer: "Kembali ke jawaban", earlier: "Tampilkan pesan sebelumnya", later: "Tampilkan pesan berikutnya", fromHere: "Dari sini", someone: "Seseorang", goTo: "Ke pesan: {m}",
  searchTitle: "Cari dalam obrolan", indexHelp: "Setiap pesan dikirim satu kali ke pekerja jaringan, untuk angka yang mewakili maknanya. Teks dan angka disimpan terenkripsi oleh layanan ini; penghapusan memusnahkan kuncinya.", indexGo: "Indeks obrolan ini", indexing: "Mengindeks… {n} dari {all}", indexed: "Terindeks: {n} pesan dari obrolan ini; {all} dalam indeks.", dropIndex: "Hapus obrolan ini dari indeks", dropped: "Dihapus dari indeks: {n} pesan.",
  query: "Cari", queryHint: "Kata atau pertanyaan", how: "Cara", byWords: "Menurut kata (tetap di peramban ini)", byMeaning: "Menurut kata dan makna (indeks layanan)", searchGo: "Cari", hits: "Ditemukan", hitsLocal: "{n} pesan; tidak ada yang keluar dari peramban ini.", noHits: "Tidak ada yang ditemukan. Coba kata lain.",
  fallback: "Model tidak memberi hasil yang dapat dipakai; ini dibuat dengan cara yang lebih sederhana.", attested: "Perangkat keras terbukti", unproved: "Tidak terbukti", sealedYes: "Tersegel", sealedProxy: "Tidak tersegel", sealedMixed: "Sebagian tersegel", sealedUnknown: "Segel tidak disebut", showProof: "Apa buktinya?",
  proofTitle: "Bukti jawaban Anda", proofIntro: "Setiap jawaban menyebut siapa yang membuatnya, sejauh mana diperiksa, dan berapa biayanya. Daftar ini hanya ada di halaman ini.", noAnswers: "Belum ada jawaban. Pakai tab lain dulu.", serviceTitle: "Layanan ini",
  simulatedText: "Jaringan ini berjalan di perangkat keras simulasi, untuk mencoba-coba. Tidak ada yang membuktikan bahwa sebuah mesin merahasiakan teks Anda: jangan kirim rahasia sungguhan. Koinnya uang mainan.",
  checked: "Yang diperiksa", noCalls: "Tidak ada model yang ditanya untuk jawaban ini, jadi tidak ada yang perlu dibuktikan.",
  verdict_hardware: "Prosesor mesin menandatangani perangkat lunak apa yang berjalan di memori terlindungnya. Sebelum teks Anda dikirim, tanda tangan itu diperiksa sampai kunci pembuatnya, dan perangkat lunaknya terhadap daftar yang diterbitkan di rantai.",
  verdict_simulated: "Semua pemeriksaan dilakukan dan lolos, tetapi buktinya berasal dari simulator: komputer mana pun dapat membuatnya.",
  verdict_mixed: "Beberapa panggilan membuat jawaban ini, dan tidak semuanya terbukti dengan cara yang sama. Anggap yang terlemah yang berlaku.", verdict_none: "Tidak ada yang terbukti tentang mesin yang menjawab. Operatornya mungkin membaca teksnya.",
  sealedYesText: "Teks Anda dienkripsi hanya untuk pekerja: yang di antaranya membawanya tanpa membacanya.", sealedProxyText: "Teks Anda dienkripsi sampai ke proksi; di dalamnya, proksi dapat membacanya.", sealedMixedText: "Sebagian panggilan jawaban ini disegel untuk pekerja, lainnya hanya sampai proksi.", sealedUnknownText: "Layanan tidak menyebut sejauh mana teks Anda dienkripsi.",
  facts: "Fakta", cost: "Biaya", tokens: "Token", tokenCounts: "{i} masuk, {o} keluar", calls: "Panggilan", model: "Model", embedModel: "Embedding", prompt: "Instruksi", verdict: "Putusan atas pekerja", image: "Citra pekerja", proxy: "Proksi", proxyImage: "Citra proksi", receiptsTitle: "Tanda terima", receipt: "Tanda terima", receiptsText: "Tanda terima ditandatangani oleh pekerja, tentang yang dilayani, dan oleh proksi, tentang yang ditagih. Isinya komitmen atas teks Anda, bukan teksnya.",
  receiptShow: "Tampilkan tanda terima", receiptSave: "Ekspor sebagai JSON", receiptVerify: "Berkas ini juga memuat garam yang mengaitkan tanda terima dengan teks Anda: simpan sendiri. Agar orang lain dapat memeriksa, tanpa teks Anda: cocoon receipt export {id} di mesin layanan ini, lalu cocoon receipt verify BERKAS di mana pun.", receiptLater: "Tanda terima ini belum ada; datangnya beberapa detik setelah jawaban. Coba lagi.", noReceipts: "Layanan tidak memberi tanda terima untuk jawaban ini.",
  notProved: "Yang tidak dibuktikan", notTrue: "Bahwa jawabannya benar. Model bisa salah; periksa yang penting.", notCount: "Bahwa token dihitung dengan jujur: jumlahnya kata pekerja.", notTelegram: "Bahwa orang lain tidak melihat pesan Anda: Telegram, dan semua di obrolan, tetap memilikinya.", notWho: "Siapa yang bertanya. Tanda terima menyebut kontrak yang membayar, bukan orang.", notHardware: "Apa pun tentang perangkat keras.", notBroken: "Bahwa prosesornya bebas dari cacat yang belum diketahui.",
  key: "Layanan ini meminta kunci akses", keyUse: "Pakai",
  retryAfter: "Coba lagi dalam {n} detik.", err_offline: "Layanan tidak menjawab. Apakah berjalan?", err_answer_incomplete: "Jawaban terputus. Coba lagi.", err_rate_limit_exceeded: "Terlalu banyak permintaan sekaligus.", err_insufficient_balance: "Saldo habis.", err_peer_not_verified: "Tidak ada mesin yang lolos pemeriksaan, jadi tidak ada yang dikirim.", err_seal_unavailable: "Teks tidak dapat disegel, jadi tidak ada yang dikirim.", err_service_unavailable: "Saat ini tidak ada yang dapat menjawab.", err_timeout: "Terlalu lama.", err_upstream_error: "Model gagal.", err_request_too_large: "Terlalu banyak sekaligus.", err_missing_required_parameter: "Ada yang kurang.", err_session_required: "Buka lagi aplikasi ini dari botnya di Telegram.", err_insufficient_quota: "Anggaran hari ini habis.", err_request: "Permintaan ditolak.", err_page: "Halaman ini gagal. Muat ulang; jika terulang, beri tahu pembuatnya.",
  err_noDraft: "Tulis draf dulu.", err_nothingAsked: "Pilih setidaknya satu hal.", err_noMessage: "Tempel pesan dulu.", err_noText: "Tempel teks dulu.", err_noChat: "Muat berkas obrolan dulu.", err_emptyRange: "Tidak ada pesan dalam rentang ini.", err_noQuery: "Ketik yang dicari.",
  err_notJSON: "Berkas ini bukan JSON. Di Telegram Desktop pilih format “JSON yang dapat dibaca mesin”.", err_notExport: "Berkas ini tidak berisi obrolan seperti yang diekspor Telegram, atau tidak ada pesan dengan teks.", err_secretChat: "Berkas ini berisi obrolan rahasia. Itu hanya di antara dua perangkat; halaman ini tidak menerimanya.", err_fileTooLarge: "Berkas ini lebih besar dari 256 MiB. Ekspor lebih sedikit sekaligus, tanpa media.",
  indexTitle: "Indeks untuk makna dan pertanyaan",
  index: "Indeks",
  byAsking: "Jawab pertanyaan saya (indeks layanan)",
  answer: "Jawaban",
  noAnswer: "Tidak ada jawaban. Inilah yang ditemukan:",
  notIndexed: "Tidak ada yang ditemukan dalam indeks. Apakah obrolan ini sudah diindeks?",
  // What the service notes, by its own words.
  "Nothing was found.": "Tidak ada yang ditemukan.",
  "This model is too small to answer questions: see what was found.": "Model ini terlalu kecil untuk menjawab pertanyaan: lihat yang ditemukan.",
  "The model gave no usable answer: see what was found.": "Model tidak memberi jawaban yang dapat dipakai: lihat yang ditemukan.",
  "What was found does not answer this.": "Yang ditemukan tidak menjawab pertanyaan ini.",
  "This model is too small for tones and emoji: they were left out.": "Model ini terlalu kecil untuk nada dan emoji: keduanya dilewati.",
  "The last message has no words to reply to.": "Pesan terakhir tidak berisi kata untuk dibalas.",
  "The model gave no usable replies: these are stock phrases.": "Model tidak memberi balasan yang dapat dipakai: ini frasa siap pakai.",
  "There are no words to summarise.": "Tidak ada kata untuk diringkas.",
  "The model gave no usable summary of a part: its longest messages stand there instead.": "Model tidak memberi ringkasan yang dapat dipakai untuk satu bagian: sebagai gantinya ada pesan-pesan terpanjangnya.",
  "This model is too small to tell decisions and open questions.": "Model ini terlalu kecil untuk mengenali keputusan dan pertanyaan terbuka.",
  "Some texts could not be translated and are returned as they were.": "Sebagian teks tidak dapat diterjemahkan dan dikembalikan apa adanya.",
  "Lexical: this network's embedding model knows letters, not meanings.": "Leksikal: model embedding jaringan ini mengenal huruf, bukan makna.",
  "Only words were compared: there is no embedding model, or the messages were indexed with another one.": "Hanya kata yang dibandingkan: tidak ada model embedding, atau pesan diindeks dengan model lain.",
  "{n} messages were indexed with another embedding model and are found by their words only.": "{n} pesan diindeks dengan model embedding lain dan hanya ditemukan lewat katanya.",
  intent_accept: "menerima", intent_decline: "menolak", intent_ask: "bertanya", intent_thank: "berterima kasih", intent_later: "nanti",
};

const ru = {
  skip: "К содержанию", simulated: "SIMULATED · СИМУЛЯЦИЯ", mask: "Скрыть личные данные", language: "Язык", tabs: "Задачи",
  maskHelp: "Адреса почты, имена пользователей, ссылки, номера телефонов, карт и счетов заменяются до отправки текста и возвращаются в ответ; в сводках, ответах и поиске — также имена тех, кто пишет. Другие имена и само содержание остаются.",
  compose: "Письмо", summarise: "Сводка", search: "Поиск", proof: "Проверка", reader: "Сообщения", replies: "Варианты ответа",
  composeTitle: "Ваш черновик", draft: "Черновик", draftHint: "Напишите или вставьте то, что хотите отправить", ctrlEnter: "Control и Enter запускают.",
  what: "Что сделать", proofread: "Исправить ошибки", emojify: "Добавить эмодзи", translateTo: "Перевести на", translateNot: "Не переводить",
  tone: "Тон", toneKeep: "Оставить как есть", tone_formal: "Официальный", tone_professional: "Деловой", tone_friendly: "Дружеский", tone_short: "Кратко", tone_supportive: "Поддерживающий", tone_funny: "Весёлый", toneOwn: "Своими словами…",
  ownTone: "Тон своими словами", ownToneHelp: "Например: как спокойный учитель. Не больше 512 символов.",
  improve: "Улучшить", stop: "Стоп", working: "Работаю…", drafting: "Пишется; ещё может измениться:", stopped: "Остановлено. Больше ничего не создаётся и не оплачивается.",
  result: "Результат", changes: "Изменения", newText: "Новый текст", unchanged: "Менять ничего не пришлось.", unimproved: "Модель не дала пригодного ответа; черновик остался прежним.", entitiesLost: "Не удалось сохранить форматирование: {n}", copy: "Копировать", copied: "Скопировано", notCopied: "Браузер не даёт странице копировать; выделите текст сами.", useDraft: "В черновик", inDraft: "Теперь это в вашем черновике",
  repliesTitle: "Ответить на сообщение", received: "Полученное сообщение", receivedHint: "Вставьте сообщение или несколько последних в виде «Имя: текст»", suggest: "Предложить ответы", repliesHelp: "Выберите ответ, и он попадёт в черновик. Само ничего не отправляется.",
  summariseTitle: "Сводка", source: "Что", sourcePaste: "Вставленный текст", sourceChat: "Чат из файла", pasteText: "Текст", pasteHint: "Вставьте сообщения или любой текст",
  file: "Экспорт чата (JSON)", fileChoose: "Выбрать файл…", fileHelp: "В Telegram Desktop: откройте чат, меню, «Экспорт истории чата», формат JSON. Файл читается в этом браузере; отправляется только то, что вы выбрали.", chat: "Чат", me: "Я", meUnknown: "Не указано", loaded: "{name}: сообщений с текстом — {n}",
  range: "Какие сообщения", rangeLast: "Последние", rangeMine: "Непрочитанные: после моего последнего", rangeDates: "Между двумя днями", rangeFrom: "Начиная с сообщения", rangeFromHelp: "Нажмите «Отсюда» у сообщения в списке.", lastN: "Сколько (не больше 200)", since: "С", until: "По (включительно)",
  willSend: "Будет отправлено сообщений: {n}", tooMany: "Сообщений: {n}; будут отправлены последние {most}.", sayWho: "Укажите выше, кто вы.", length: "Длина", lengthBullets: "Пункты", lengthShort: "Два-три предложения", lengthLine: "Одно предложение", summaryTo: "Язык сводки", sameLanguage: "Как в сообщениях", summariseGo: "Составить сводку",
  summary: "Сводка", byAI: "Написано ИИ. Номера ведут к сообщениям: проверьте важное.", points: "Коротко", decisions: "Решения", questions: "Открытые вопросы",
  countMessages: "{n}", backToAnswer: "Назад к ответу", earlier: "Показать более ранние", later: "Показать более поздние", fromHere: "Отсюда", someone: "Кто-то", goTo: "К сообщению: {m}",
  searchTitle: "Поиск по чату", indexHelp: "Каждое сообщение один раз отправляется воркеру сети, чтобы получить числа, выражающие смысл. Текст и числа хранятся в службе зашифрованными; удаление уничтожает их ключи.", indexGo: "Внести чат в указатель", indexing: "Вношу… {n} из {all}", indexed: "Внесено сообщений этого чата: {n}; всего в указателе: {all}.", dropIndex: "Удалить чат из указателя", dropped: "Удалено из указателя сообщений: {n}.",
  query: "Искать", queryHint: "Слова или вопрос", how: "Как", byWords: "По словам (не покидает браузер)", byMeaning: "По словам и смыслу (указатель службы)", searchGo: "Найти", hits: "Найдено", hitsLocal: "Сообщений: {n}; ничего не покинуло браузер.", noHits: "Ничего не найдено. Попробуйте другие слова.",
  fallback: "Модель не дала пригодного ответа; это сделано более простым способом.", attested: "Подтверждено оборудованием", unproved: "Не доказано", sealedYes: "Запечатано", sealedProxy: "Не запечатано", sealedMixed: "Запечатано частично", sealedUnknown: "О печати не сказано", showProof: "Чем это доказано?",
  proofTitle: "Доказательства ответов", proofIntro: "О каждом ответе известно, кто его дал, насколько это проверено и сколько он стоил. Список есть только на этой странице.", noAnswers: "Ответов ещё нет. Начните с другой вкладки.", serviceTitle: "Эта служба",
  simulatedText: "Сеть работает на симулированном оборудовании, для пробы. Ничто здесь не доказывает, что машина хранит ваш текст в тайне: не отправляйте настоящих секретов. Монеты игрушечные.",
  checked: "Что проверено", noCalls: "Для этого ответа модель не спрашивали, доказывать нечего.",
  verdict_hardware: "Процессор машины подписал, какая программа работает в его защищённой памяти. До отправки текста эта подпись проверена вплоть до ключа изготовителя, а программа — по списку, опубликованному в блокчейне.",
  verdict_simulated: "Все проверки выполнены и пройдены, но свидетельство дал симулятор: его может создать любой компьютер.",
  verdict_mixed: "Ответ составлен из нескольких вызовов, и доказаны они по-разному. Считайте верным самое слабое.", verdict_none: "О машине, которая ответила, ничего не доказано. Её владелец мог прочитать текст.",
  sealedYesText: "Текст зашифрован только для воркера: те, кто между вами, передали его не читая.", sealedProxyText: "Текст был зашифрован до прокси; сам прокси мог его прочитать.", sealedMixedText: "Часть вызовов запечатана для воркера, остальные — только до прокси.", sealedUnknownText: "Служба не сообщила, докуда текст был зашифрован.",
  facts: "Данные", cost: "Стоимость", tokens: "Токены", tokenCounts: "{i} на входе, {o} на выходе", calls: "Вызовы", model: "Модель", embedModel: "Эмбеддинги", prompt: "Инструкция", verdict: "Вердикт о воркере", image: "Образ воркера", proxy: "Прокси", proxyImage: "Образ прокси", receiptsTitle: "Квитанции", receipt: "Квитанция", receiptsText: "Квитанцию подписывают воркер — о том, что сделано, и прокси — о том, что списано. В ней обязательства на ваш текст, но не сам текст.",
  receiptShow: "Показать квитанцию", receiptSave: "Сохранить как JSON", receiptVerify: "В файле есть и соли, связывающие квитанцию с вашим текстом: храните его у себя. Чтобы проверили другие, без вашего текста: cocoon receipt export {id} на машине этой службы, затем где угодно cocoon receipt verify ФАЙЛ.", receiptLater: "Квитанции ещё нет; она приходит через несколько секунд после ответа. Попробуйте снова.", noReceipts: "Служба не дала квитанции на этот ответ.",
  notProved: "Чего это не доказывает", notTrue: "Что ответ верен. Модели ошибаются; проверьте важное.", notCount: "Что токены посчитаны честно: это слово воркера.", notTelegram: "Что ваших сообщений никто не видел: они есть у Telegram и у всех в чате.", notWho: "Кто спрашивал. Квитанция называет платящий контракт, а не человека.", notHardware: "Ничего об оборудовании.", notBroken: "Что в процессоре нет ещё неизвестных изъянов.",
  key: "Служба требует ключ доступа", keyUse: "Применить",
  retryAfter: "Повторите через {n} с.", err_offline: "Служба не отвечает. Она запущена?", err_answer_incomplete: "Ответ оборвался. Попробуйте ещё раз.", err_rate_limit_exceeded: "Слишком много запросов сразу.", err_insufficient_balance: "Баланс исчерпан.", err_peer_not_verified: "Ни одна машина не прошла проверку, поэтому ничего не отправлено.", err_seal_unavailable: "Текст не удалось запечатать, поэтому ничего не отправлено.", err_service_unavailable: "Сейчас некому ответить.", err_timeout: "Слишком долго.", err_upstream_error: "Модель не справилась.", err_request_too_large: "Слишком много сразу.", err_missing_required_parameter: "Чего-то не хватает.", err_session_required: "Откройте приложение снова из бота в Telegram.", err_insufficient_quota: "Бюджет на сегодня исчерпан.", err_request: "Запрос отклонён.", err_page: "Сбой страницы. Перезагрузите её; если повторится, сообщите автору.",
  err_noDraft: "Сначала напишите черновик.", err_nothingAsked: "Выберите хотя бы одно действие.", err_noMessage: "Сначала вставьте сообщение.", err_noText: "Сначала вставьте текст.", err_noChat: "Сначала загрузите файл чата.", err_emptyRange: "В этом промежутке нет сообщений.", err_noQuery: "Введите, что искать.",
  err_notJSON: "Это не JSON. В Telegram Desktop выберите формат «Машиночитаемый JSON».", err_notExport: "В файле нет чата в формате экспорта Telegram или сообщений с текстом.", err_secretChat: "В файле секретный чат. Такие остаются между двумя устройствами; страница их не принимает.", err_fileTooLarge: "Файл больше 256 МиБ. Экспортируйте меньше за раз, без медиа.",
  indexTitle: "Указатель для смысла и вопросов",
  index: "Указатель",
  byAsking: "Ответить на вопрос (указатель службы)",
  answer: "Ответ",
  noAnswer: "Ответа нет. Вот что найдено:",
  notIndexed: "В указателе ничего не найдено. Внесён ли в него этот чат?",
  // What the service notes, by its own words.
  "Nothing was found.": "Ничего не найдено.",
  "This model is too small to answer questions: see what was found.": "Эта модель слишком мала, чтобы отвечать на вопросы: смотрите, что нашлось.",
  "The model gave no usable answer: see what was found.": "Модель не дала годного ответа: смотрите, что нашлось.",
  "What was found does not answer this.": "В найденном ответа на это нет.",
  "This model is too small for tones and emoji: they were left out.": "Эта модель слишком мала для тонов и эмодзи: они пропущены.",
  "The last message has no words to reply to.": "В последнем сообщении нет слов, на которые можно ответить.",
  "The model gave no usable replies: these are stock phrases.": "Модель не дала годных ответов: это готовые фразы.",
  "There are no words to summarise.": "Нет слов, из которых можно сделать сводку.",
  "The model gave no usable summary of a part: its longest messages stand there instead.": "Для одной части модель не дала годной сводки: вместо неё стоят самые длинные сообщения.",
  "This model is too small to tell decisions and open questions.": "Эта модель слишком мала, чтобы выделять решения и открытые вопросы.",
  "Some texts could not be translated and are returned as they were.": "Некоторые тексты не удалось перевести, они остались как были.",
  "Lexical: this network's embedding model knows letters, not meanings.": "Поиск по буквам: модель этой сети не знает смысла слов.",
  "Only words were compared: there is no embedding model, or the messages were indexed with another one.": "Сравнивались только слова: нет модели смысла, или сообщения внесены с другой моделью.",
  "{n} messages were indexed with another embedding model and are found by their words only.": "Сообщений, внесённых с другой моделью и находимых только по словам: {n}.",
  intent_accept: "согласие", intent_decline: "отказ", intent_ask: "вопрос", intent_thank: "благодарность", intent_later: "позже",
};

const all = { en, id, ru };
let words = en;

/** guess takes the first of the person's languages that there is. */
export function guess(more = []) {
  for (const l of [...more, ...(navigator.languages || []), navigator.language || ""]) {
    const code = l.toLowerCase().split("-")[0];
    if (all[code]) return code;
    if (code === "in") return "id"; // as old Android calls it
  }
  return "en";
}

export function choose(code) {
  words = all[code] || en;
  document.documentElement.lang = all[code] ? code : "en";
}

/** t is the words of key, with {names} filled in. */
export const t = (key, vars) => (words[key] ?? en[key] ?? key).replace(/\{(\w+)\}/g, (m, n) => (vars && n in vars ? String(vars[n]) : m));

/** T makes an element whose text follows the language. */
export function T(tag, attrs, key, vars) {
  return h(tag, { ...attrs, "data-t": key, "data-v": vars && JSON.stringify(vars) }, t(key, vars));
}

/** options fills a select with [value, key] pairs. */
export function options(select, pairs) {
  select.append(...pairs.map(([value, key]) => T("option", { value }, key)));
  return select;
}

/** translate gives everything below root its words. */
export function translate(root) {
  for (const e of root.querySelectorAll("[data-t]")) e.textContent = t(e.dataset.t, e.dataset.v && JSON.parse(e.dataset.v));
  for (const e of root.querySelectorAll("[data-l]")) e.setAttribute("aria-label", t(e.dataset.l));
  for (const e of root.querySelectorAll("[data-p]")) e.setAttribute("placeholder", t(e.dataset.p));
}

const locale = () => document.documentElement.lang;
/** date writes Unix seconds, time milliseconds, as the person reads them. */
export const date = (ts) => new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(ts * 1000);
export const time = (ms) => new Intl.DateTimeFormat(locale(), { timeStyle: "medium" }).format(ms);
