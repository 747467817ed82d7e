package main

var phraseTable = []text4{
	{"Good morning!", "Selamat pagi!", "Доброе утро!", "Guten Morgen!"}, {"Good evening!", "Selamat malam!", "Добрый вечер!", "Guten Abend!"}, {"Good night!", "Selamat tidur!", "Спокойной ночи!", "Gute Nacht!"},
	{"Hello!", "Halo!", "Здравствуйте!", "Hallo!"}, {"How are you?", "Apa kabar?", "Как дела?", "Wie geht es dir?"}, {"I am fine.", "Saya baik-baik saja.", "У меня всё хорошо.", "Mir geht es gut."},
	{"Thank you!", "Terima kasih!", "Спасибо!", "Danke!"}, {"Thank you very much!", "Terima kasih banyak!", "Большое спасибо!", "Vielen Dank!"}, {"You are welcome.", "Sama-sama.", "Пожалуйста.", "Gern geschehen."},
	{"Please.", "Tolong.", "Прошу.", "Bitte."}, {"Sorry!", "Maaf!", "Извините!", "Entschuldigung!"}, {"Yes.", "Ya.", "Да.", "Ja."}, {"No.", "Tidak.", "Нет.", "Nein."}, {"Maybe.", "Mungkin.", "Может быть.", "Vielleicht."},
	{"Goodbye!", "Selamat tinggal!", "До свидания!", "Auf Wiedersehen!"}, {"See you later!", "Sampai nanti!", "До скорого!", "Bis später!"}, {"See you {D}!", "Sampai jumpa {D}!", "Увидимся {D}!", "Bis {D}!"},
	{"What is your name?", "Siapa nama Anda?", "Как вас зовут?", "Wie heißen Sie?"}, {"My name is {A}.", "Nama saya {A}.", "Меня зовут {A}.", "Ich heiße {A}."}, {"Nice to meet you.", "Senang bertemu dengan Anda.", "Приятно познакомиться.", "Freut mich."},
	{"Where are you from?", "Anda berasal dari mana?", "Откуда вы?", "Woher kommen Sie?"}, {"I live in Jakarta.", "Saya tinggal di Jakarta.", "Я живу в Джакарте.", "Ich wohne in Jakarta."}, {"I live in Berlin.", "Saya tinggal di Berlin.", "Я живу в Берлине.", "Ich wohne in Berlin."},
	{"How much does it cost?", "Berapa harganya?", "Сколько это стоит?", "Wie viel kostet das?"}, {"Where is the station?", "Di mana stasiun?", "Где вокзал?", "Wo ist der Bahnhof?"}, {"Where is the toilet?", "Di mana toilet?", "Где туалет?", "Wo ist die Toilette?"},
	{"I do not understand.", "Saya tidak mengerti.", "Я не понимаю.", "Ich verstehe nicht."}, {"Do you speak English?", "Apakah Anda berbicara bahasa Inggris?", "Вы говорите по-английски?", "Sprechen Sie Englisch?"}, {"Please speak slowly.", "Tolong bicara pelan-pelan.", "Говорите медленнее, пожалуйста.", "Bitte sprechen Sie langsam."},
	{"Help!", "Tolong bantu!", "Помогите!", "Hilfe!"}, {"I need help.", "Saya butuh bantuan.", "Мне нужна помощь.", "Ich brauche Hilfe."}, {"Call a doctor!", "Panggil dokter!", "Вызовите врача!", "Rufen Sie einen Arzt!"},
	{"I am hungry.", "Saya lapar.", "Я голоден.", "Ich habe Hunger."}, {"I am tired.", "Saya lelah.", "Я устал.", "Ich bin müde."}, {"I am at work.", "Saya sedang bekerja.", "Я на работе.", "Ich bin bei der Arbeit."},
	{"I am on my way.", "Saya sedang di jalan.", "Я уже в пути.", "Ich bin unterwegs."}, {"I will be {N} minutes late.", "Saya akan terlambat {N} menit.", "Я опоздаю на {N} минут.", "Ich komme {N} Minuten später."}, {"I am waiting for you {P}.", "Saya menunggu Anda {P}.", "Я жду вас {P}.", "Ich warte auf Sie {P}."},
	{"Let us meet {D} at {T}.", "Mari bertemu {D} pukul {T}.", "Давайте встретимся {D} в {T}.", "Treffen wir uns {D} um {T}."}, {"Let us meet at {T} {P}.", "Mari bertemu pukul {T} {P}.", "Давайте встретимся в {T} {P}.", "Treffen wir uns um {T} {P}."}, {"What time is it?", "Jam berapa sekarang?", "Который час?", "Wie spät ist es?"},
	{"It is {T}.", "Sekarang pukul {T}.", "Сейчас {T}.", "Es ist {T}."}, {"Can you call me?", "Bisakah Anda menelepon saya?", "Можете мне позвонить?", "Können Sie mich anrufen?"}, {"I will call you {D}.", "Saya akan menelepon Anda {D}.", "Я позвоню вам {D}.", "Ich rufe Sie {D} an."},
	{"The meeting is {D} at {T}.", "Rapat diadakan {D} pukul {T}.", "Встреча состоится {D} в {T}.", "Das Treffen ist {D} um {T}."}, {"I love you.", "Aku cinta kamu.", "Я тебя люблю.", "Ich liebe dich."}, {"I miss you.", "Aku rindu kamu.", "Я по тебе скучаю.", "Ich vermisse dich."},
	{"Happy birthday!", "Selamat ulang tahun!", "С днём рождения!", "Alles Gute zum Geburtstag!"}, {"Congratulations!", "Selamat!", "Поздравляю!", "Herzlichen Glückwunsch!"}, {"Good luck!", "Semoga berhasil!", "Удачи!", "Viel Glück!"},
	{"Have a nice day!", "Semoga harimu menyenangkan!", "Хорошего дня!", "Schönen Tag noch!"}, {"No problem.", "Tidak masalah.", "Без проблем.", "Kein Problem."}, {"Of course.", "Tentu saja.", "Конечно.", "Natürlich."},
	{"I do not know.", "Saya tidak tahu.", "Я не знаю.", "Ich weiß es nicht."}, {"I agree.", "Saya setuju.", "Я согласен.", "Ich bin einverstanden."}, {"That is great!", "Bagus sekali!", "Отлично!", "Das ist toll!"},
	{"The weather is nice today.", "Cuaca hari ini bagus.", "Сегодня хорошая погода.", "Das Wetter ist heute schön."}, {"It is raining.", "Sedang hujan.", "Идёт дождь.", "Es regnet."}, {"The food is delicious.", "Makanannya enak.", "Еда очень вкусная.", "Das Essen schmeckt gut."},
	{"I would like a coffee.", "Saya mau kopi.", "Я хочу кофе.", "Ich möchte einen Kaffee."}, {"The bill, please.", "Minta bonnya.", "Счёт, пожалуйста.", "Die Rechnung, bitte."}, {"Water, please.", "Minta air.", "Воды, пожалуйста.", "Wasser, bitte."},
	{"Did you sleep well?", "Apakah tidurmu nyenyak?", "Ты хорошо спал?", "Hast du gut geschlafen?"}, {"What are you doing?", "Kamu sedang apa?", "Что ты делаешь?", "Was machst du?"}, {"Where are you?", "Kamu di mana?", "Где ты?", "Wo bist du?"},
	{"I am at home.", "Saya di rumah.", "Я дома.", "Ich bin zu Hause."}, {"I will come {D}.", "Saya akan datang {D}.", "Я приду {D}.", "Ich komme {D}."}, {"I cannot come {D}.", "Saya tidak bisa datang {D}.", "Я не смогу прийти {D}.", "Ich kann {D} nicht kommen."},
	{"The train leaves at {T}.", "Kereta berangkat pukul {T}.", "Поезд отправляется в {T}.", "Der Zug fährt um {T} ab."}, {"Send me the photo.", "Kirim fotonya ke saya.", "Пришли мне фото.", "Schick mir das Foto."}, {"I have sent you the file.", "Saya sudah mengirim berkasnya.", "Я отправил вам файл.", "Ich habe Ihnen die Datei geschickt."},
	{"My private data stays private.", "Data pribadi saya tetap pribadi.", "Мои личные данные остаются личными.", "Meine privaten Daten bleiben privat."}, {"Nobody can read my messages.", "Tidak ada yang bisa membaca pesan saya.", "Никто не может прочитать мои сообщения.", "Niemand kann meine Nachrichten lesen."}, {"{A} says hello.", "{A} titip salam.", "{A} передаёт привет.", "{A} lässt grüßen."},
	{"Do you have time {D}?", "Apakah kamu ada waktu {D}?", "У тебя есть время {D}?", "Hast du {D} Zeit?"}, {"I am looking forward to it.", "Saya menantikannya.", "Жду с нетерпением.", "Ich freue mich darauf."}, {"Take care!", "Jaga diri!", "Береги себя!", "Pass auf dich auf!"},
}

type chat struct{ chat, sum text4 }

var chatTable = []chat{
	{text4{"{A}: {X} {D}?|{B}: ok, {T} {P}.|{A}: deal.", "{A}: {X} {D}?|{B}: oke, {T} {P}.|{A}: sip.", "{A}: {X} {D}?|{B}: хорошо, {T} {P}.|{A}: договорились.", "{A}: {X} {D}?|{B}: gut, {T} {P}.|{A}: abgemacht."},
		text4{"{A} and {B} agreed on {X} {D} at {T} {P}.", "{A} dan {B} sepakat {X} {D} pukul {T} {P}.", "{A} и {B} договорились: {X} {D} в {T} {P}.", "{A} und {B} haben sich verabredet: {X} {D} um {T} {P}."}},
	{text4{"{A}: do you have time for {X} {D}?|{B}: sorry, not {D}.|{A}: {E} then?|{B}: yes, at {T}.", "{A}: ada waktu untuk {X} {D}?|{B}: maaf, {D} tidak bisa.|{A}: kalau {E}?|{B}: bisa, pukul {T}.", "{A}: есть время {D}? {X}?|{B}: извини, {D} не могу.|{A}: тогда {E}?|{B}: да, в {T}.", "{A}: hast du {D} Zeit? {X}?|{B}: leider nicht {D}.|{A}: dann {E}?|{B}: ja, um {T}."},
		text4{"{B} has no time {D}; {A} and {B} agreed on {X} {E} at {T}.", "{B} tidak bisa {D}; {A} dan {B} sepakat {X} {E} pukul {T}.", "{B} не может {D}; {A} и {B} договорились: {X} {E} в {T}.", "{B} kann {D} nicht; {A} und {B} haben sich verabredet: {X} {E} um {T}."}},
	{text4{"{A}: are you coming {D}?|{B}: no, I am sick.|{A}: get well soon!", "{A}: kamu datang {D}?|{B}: tidak, aku sakit.|{A}: cepat sembuh!", "{A}: ты придёшь {D}?|{B}: нет, я болею.|{A}: выздоравливай!", "{A}: kommst du {D}?|{B}: nein, ich bin krank.|{A}: gute Besserung!"},
		text4{"{B} is sick and will not come {D}.", "{B} sakit dan tidak datang {D}.", "{B} болеет и не придёт {D}.", "{B} ist krank und kommt {D} nicht."}},
	{text4{"{A}: who brings {I}?|{B}: I do.|{C}: and I bring {J}.", "{A}: siapa bawa {I}?|{B}: aku.|{C}: aku bawa {J}.", "{A}: кто принесёт {I}?|{B}: я.|{C}: а я принесу {J}.", "{A}: wer bringt {I} mit?|{B}: ich.|{C}: und ich bringe {J} mit."},
		text4{"{B} brings {I} and {C} brings {J}.", "{B} membawa {I} dan {C} membawa {J}.", "{B} принесёт {I}, а {C} принесёт {J}.", "{B} bringt {I} mit und {C} bringt {J} mit."}},
	{text4{"{A}: I will be {N} minutes late.|{B}: no problem, I am {P}.", "{A}: aku telat {N} menit.|{B}: tidak apa-apa, aku {P}.", "{A}: я опоздаю на {N} минут.|{B}: ничего, я {P}.", "{A}: ich komme {N} Minuten später.|{B}: kein Problem, ich bin {P}."},
		text4{"{A} will be {N} minutes late; {B} is waiting {P}.", "{A} telat {N} menit; {B} menunggu {P}.", "{A} опоздает на {N} минут; {B} ждёт {P}.", "{A} kommt {N} Minuten später; {B} wartet {P}."}},
	{text4{"{A}: the meeting moved from {T} to {U}.|{B}: thanks, got it.", "{A}: rapat pindah dari {T} ke {U}.|{B}: oke, terima kasih.", "{A}: встречу перенесли с {T} на {U}.|{B}: понял, спасибо.", "{A}: das Treffen ist von {T} auf {U} verschoben.|{B}: danke, alles klar."},
		text4{"{A} says the meeting moved from {T} to {U}.", "{A} bilang rapat pindah dari {T} ke {U}.", "{A} пишет, что встречу перенесли с {T} на {U}.", "{A} sagt, das Treffen ist von {T} auf {U} verschoben."}},
	{text4{"{A}: can you send me {I}?|{B}: yes, {D}.", "{A}: bisa kirim {I}?|{B}: bisa, {D}.", "{A}: пришлёшь {I}?|{B}: да, {D}.", "{A}: kannst du mir {I} schicken?|{B}: ja, {D}."},
		text4{"{B} will send {A} {I} {D}.", "{B} akan mengirim {I} ke {A} {D}.", "{B} пришлёт {I} {D}; просит {A}.", "{B} schickt {A} {I} {D}."}},
	{text4{"{A}: where are you?|{B}: {P}. I forgot {I}.|{A}: I have {I}.", "{A}: kamu di mana?|{B}: {P}. Aku lupa {I}.|{A}: ada di aku.", "{A}: ты где?|{B}: {P}. Я забыл {I}.|{A}: у меня есть.", "{A}: wo bist du?|{B}: {P}. Ich habe {I} vergessen.|{A}: ich habe es."},
		text4{"{B} is {P} and forgot {I}; {A} has it.", "{B} {P} dan lupa {I}; ada di {A}.", "{B} {P}, забыл {I}; у {A} есть.", "{B} ist {P} und hat {I} vergessen; {A} hat es."}},
}

type reply struct {
	msg, reply text4
	intent     [3]string
}

var replyTable = []reply{
	{text4{"{X} {D}?|do you want to meet {D}?|are you free {D} at {T}?", "{X} {D}?|mau bertemu {D}?|kamu ada waktu {D} pukul {T}?", "{X} {D}?|встретимся {D}?|ты свободен {D} в {T}?", "{X} {D}?|treffen wir uns {D}?|hast du {D} um {T} Zeit?"},
		text4{"Yes, gladly!|Sorry, I can't.|Let me check and tell you.", "Ya, mau!|Maaf, tidak bisa.|Aku cek dulu ya.", "Да, с радостью!|Извини, не могу.|Проверю и напишу.", "Ja, gern!|Leider geht es nicht.|Ich schaue nach und sage Bescheid."}, [3]string{"accept", "decline", "later"}},
	{text4{"where are you?|are you coming?|I am waiting {P}.", "kamu di mana?|kamu datang?|aku menunggu {P}.", "ты где?|ты идёшь?|я жду {P}.", "wo bist du?|kommst du?|ich warte {P}."},
		text4{"On my way!|I will be late, sorry.|I can't come today.", "Aku di jalan!|Maaf, aku telat.|Hari ini aku tidak bisa.", "Уже еду!|Извини, опоздаю.|Сегодня не приду.", "Bin unterwegs!|Ich komme später, sorry.|Heute schaffe ich es nicht."}, [3]string{"accept", "apologise", "decline"}},
	{text4{"thank you for your help!|thanks a lot!", "terima kasih atas bantuannya!|makasih banyak!", "спасибо за помощь!|большое спасибо!", "danke für deine Hilfe!|vielen Dank!"},
		text4{"You're welcome!|Any time!|Glad I could help.", "Sama-sama!|Kapan saja!|Senang bisa membantu.", "Пожалуйста!|Обращайся!|Рад помочь.", "Gern geschehen!|Jederzeit!|Freut mich, dass ich helfen konnte."}, [3]string{"polite", "friendly", "warm"}},
	{text4{"I am sick {D}.|I feel bad today.|I had a hard day.", "aku sakit {D}.|hari ini aku tidak enak badan.|hariku berat.", "я болею {D}.|мне сегодня плохо.|у меня был тяжёлый день.", "ich bin {D} krank.|mir geht es heute schlecht.|ich hatte einen schweren Tag."},
		text4{"Get well soon!|Can I help you?|Take a rest, we can talk later.", "Cepat sembuh!|Ada yang bisa kubantu?|Istirahat dulu, nanti kita bicara.", "Выздоравливай!|Чем помочь?|Отдыхай, поговорим позже.", "Gute Besserung!|Kann ich dir helfen?|Ruh dich aus, wir reden später."}, [3]string{"wish", "offer", "later"}},
	{text4{"I passed the exam!|I got the job!|we won!", "aku lulus ujian!|aku diterima kerja!|kami menang!", "я сдал экзамен!|меня взяли на работу!|мы выиграли!", "ich habe die Prüfung bestanden!|ich habe den Job!|wir haben gewonnen!"},
		text4{"Congratulations!|I knew it!|Let's celebrate!", "Selamat!|Aku sudah yakin!|Ayo kita rayakan!", "Поздравляю!|Я так и знал!|Надо отметить!", "Herzlichen Glückwunsch!|Ich wusste es!|Lass uns feiern!"}, [3]string{"congratulate", "praise", "invite"}},
	{text4{"sorry, I will be {N} minutes late.|sorry I forgot to call you.", "maaf, aku telat {N} menit.|maaf, aku lupa menelepon.", "извини, опоздаю на {N} минут.|прости, забыл позвонить.", "sorry, ich komme {N} Minuten später.|sorry, ich habe vergessen anzurufen."},
		text4{"No problem!|Okay, see you soon.|Please tell me earlier next time.", "Tidak apa-apa!|Oke, sampai nanti.|Lain kali kabari lebih awal ya.", "Ничего страшного!|Хорошо, до встречи.|В следующий раз предупреди раньше.", "Kein Problem!|Okay, bis gleich.|Sag nächstes Mal bitte früher Bescheid."}, [3]string{"forgive", "neutral", "remind"}},
	{text4{"can you send me the file?|could you help me {D}?|can you call me at {T}?", "bisa kirim berkasnya?|bisa bantu aku {D}?|bisa telepon aku pukul {T}?", "пришлёшь файл?|поможешь мне {D}?|позвонишь мне в {T}?", "kannst du mir die Datei schicken?|kannst du mir {D} helfen?|kannst du mich um {T} anrufen?"},
		text4{"Sure!|Not now, a bit later.|Sorry, I can't.", "Bisa!|Sebentar lagi ya.|Maaf, tidak bisa.", "Конечно!|Чуть позже.|Извини, не могу.", "Klar!|Etwas später.|Leider nicht."}, [3]string{"accept", "later", "decline"}},
}

type labelled struct {
	label string
	msg   text4
}

var labelTable = []labelled{
	{"spam", text4{"you won {N} thousand dollars, click here!|cheap watches, only {D}, buy now!|earn {N} coins per hour, no work, write to us!|free crypto for the first {N} people, send your key!", "Anda menang {N} juta, klik di sini!|jam murah, hanya {D}, beli sekarang!|hasilkan {N} koin per jam tanpa kerja!|kripto gratis untuk {N} orang pertama, kirim kunci Anda!", "вы выиграли {N} тысяч, жмите сюда!|дешёвые часы, только {D}, купите сейчас!|зарабатывайте {N} монет в час без работы!|бесплатная крипта первым {N}, пришлите ключ!", "Sie haben {N} tausend Euro gewonnen, hier klicken!|billige Uhren, nur {D}, jetzt kaufen!|verdiene {N} Münzen pro Stunde ohne Arbeit!|gratis Krypto für die ersten {N}, schick uns deinen Schlüssel!"}},
	{"work", text4{"the report is due {D}.|the client meeting is {D} at {T}.|please review {I} before the meeting.|{A} needs the numbers for the project {D}.", "laporan harus selesai {D}.|rapat klien {D} pukul {T}.|tolong periksa {I} sebelum rapat.|{A} butuh angka proyek {D}.", "отчёт нужен {D}.|встреча с клиентом {D} в {T}.|проверьте {I} до встречи, пожалуйста.|{A} ждёт цифры по проекту {D}.", "der Bericht ist {D} fällig.|das Kundentreffen ist {D} um {T}.|bitte prüfen Sie {I} vor dem Treffen.|{A} braucht die Zahlen für das Projekt {D}."}},
	{"private", text4{"mum asks if you come {D}.|shall we have {X} {D}?|happy birthday, {A}!|the kids are {P}, all good.", "ibu tanya kamu datang {D}?|mau {X} {D}?|selamat ulang tahun, {A}!|anak-anak {P}, semua baik.", "мама спрашивает, придёшь ли ты {D}.|{X} {D}, пойдём?|с днём рождения, {A}!|дети {P}, всё хорошо.", "Mama fragt, ob du {D} kommst.|{X} {D}, hast du Lust?|alles Gute zum Geburtstag, {A}!|die Kinder sind {P}, alles gut."}},
	{"urgent", text4{"call me now, it is important!|the server is down, we need you now!|{A} is in hospital, come quickly!|the train leaves in {N} minutes, hurry!", "telepon aku sekarang, penting!|server mati, kami butuh kamu sekarang!|{A} di rumah sakit, cepat datang!|kereta berangkat {N} menit lagi, cepat!", "срочно позвони, это важно!|сервер упал, ты нужен прямо сейчас!|{A} в больнице, приезжай скорее!|поезд через {N} минут, скорее!", "ruf mich sofort an, es ist wichtig!|der Server ist ausgefallen, wir brauchen dich sofort!|{A} ist im Krankenhaus, komm schnell!|der Zug fährt in {N} Minuten, beeil dich!"}},
}
